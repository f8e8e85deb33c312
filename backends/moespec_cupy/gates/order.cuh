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
