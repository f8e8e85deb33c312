// Selection in the normative order, by one warp.
#pragma once

constexpr Candidate EVERYBODY_LEFT = {TOP_KEY, -1};      // the one before the first

__device__ inline bool comes_after(Candidate c, Candidate last) { return c.key < last.key || (c.key == last.key && c.index > last.index); }

// The first after `last` in the order; key(e) is the key of expert e.  Nobody left: index -1.
template <class Key> __device__ inline Candidate next_best(Candidate last, i64 experts, Key key) {
    Candidate best = {0, -1};
    for (i64 e = lane(); e < experts; e += 32) {
        Candidate c = {key(e), e};
        if (comes_after(c, last) && before(c, best)) best = c;
    }
    return warp_first(best);
}

// As `choose`, of at most 32 R experts: every key is computed once and stays in a register.
template <int R, class Key, class Take> __device__ inline void choose_held(i64 k, i64 experts, Key key, Take take) {
    i64 held[R];
    unsigned left = 0;
#pragma unroll
    for (int r = 0; r < R; r++) {
        bool here = lane() + 32 * r < experts;
        held[r] = here ? key(lane() + 32 * r) : 0;
        left |= (here ? 1u : 0u) << r;
    }
    for (i64 j = 0; j < k; j++) {
        Candidate best = {0, -1};
#pragma unroll
        for (int r = 0; r < R; r++) {
            Candidate c = {held[r], left >> r & 1 ? lane() + 32 * r : -1};
            if (before(c, best)) best = c;
        }
        best = warp_first(best);
        if (best.index >= 0 && best.index % 32 == lane()) left &= ~(1u << (best.index / 32));
        take(j, best.index);
    }
}

// The first k of the order: all lanes are told take(j, e), one j after the other; -1 where nobody is left.
template <class Key, class Take> __device__ inline void choose(i64 k, i64 experts, Key key, Take take) {
    if (experts <= 256) return choose_held<8>(k, experts, key, take);
    Candidate best = EVERYBODY_LEFT;
    for (i64 j = 0; j < k; j++) {
        best = next_best(best, experts, key);
        take(j, best.index);
    }
}

// Choices j of a row belong to lane j % 32, which writes and reads them.
__device__ inline bool mine(i64 j) { return j % 32 == lane(); }
