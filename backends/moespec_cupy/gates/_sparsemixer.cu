#include "order.cuh"

// What takes part in one round of a token: experts that were chosen before are left out, and so is what is far from the best.
struct Round {
    const T *logits;
    const i64 *ids;                               // of the token
    i64 j;
    A twice_eps, top;

    __device__ bool taken(i64 e) const {
        bool found = false;
        for (i64 i = 0; i < j; i++) found = found || ids[i] == e;
        return found;
    }
    __device__ A left(i64 e) const { return taken(e) ? -infinity<A>() : (A)widen(logits[e]); }
    __device__ bool far(A x) const {
        A size = x < 0 ? -x : x;
        return top - x > twice_eps * (size > top ? size : top);          // a NaN in either is not far
    }
    __device__ A part(i64 e) const {
        A x = left(e);
        return far(x) ? (A)0 : exp(x - top);
    }
};

// heun [tokens, k], or none: the damping of what is not the most probable.
__device__ inline f64 heun_factor(const f64 *heun, i64 at, bool is_best) { return !heun || is_best || heun[at] > 0.75 ? 1.0 : 0.3333; }

// given or noise, or neither of them.  tops and totals [tokens, k]: of every round.
KERNEL sparsemixer(const T *logits, const i64 *given, const U *noise, const f64 *heun, A twice_eps, i64 *ids, T *weights, f64 *tops, f64 *totals,
                   i64 tokens, i64 experts, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        Round round = {logits + t * experts, ids + t * k, 0, twice_eps, 0};
        Candidate ranked = EVERYBODY_LEFT;
        for (i64 j = 0; j < k; j++) {
            round.j = j;
            Candidate best = next_best(EVERYBODY_LEFT, experts, [&](i64 e) { return order_key(round.left(e)); });
            round.top = round.left(best.index);
            A total = 0;
            for (i64 e = lane(); e < experts; e += 32) total += round.part(e);
            total = warp_sum(total);
            i64 chosen;
            if (given) {                                     // the same in all lanes
                chosen = legal(given[t * k + j], experts);
            } else if (noise) {
                Candidate mine = {0, -1};
                for (i64 e = lane(); e < experts; e += 32) {
                    A x = round.left(e);
                    Candidate c = {order_key((round.far(x) ? -infinity<A>() : x) + (A)widen(noise[(t * k + j) * experts + e])), e};
                    if (!round.taken(e) && before(c, mine)) mine = c;
                }
                chosen = warp_first(mine).index;
            } else {
                ranked = next_best(ranked, experts, [&](i64 e) { return order_key(logits[t * experts + e]); });
                chosen = ranked.index;
            }
            A share = chosen < 0 ? (A)0 : round.part(chosen) / total;
            if (lane() == 0) {
                i64 at = t * k + j;
                ids[at] = chosen;
                weights[at] = narrow<T>((f64)share * heun_factor(heun, at, chosen == best.index));
                tops[at] = round.top;
                totals[at] = total;
            }
            __syncwarp();                                    // the next round reads the id
        }
    }
}

// The published estimator, which leaves Heun's factor out.
KERNEL sparsemixer_backward(const T *logits, const i64 *ids, const f64 *tops, const f64 *totals, A twice_eps, const T *dweights, T *dlogits,
                            i64 tokens, i64 experts, i64 k) {
    for (i64 i = thread_index(); i < tokens * experts; i += thread_count()) {
        i64 t = i / experts, e = i % experts;
        A sum = 0;
        for (i64 j = 0; j < k; j++) {
            i64 at = t * k + j, chosen = ids[at];
            if (chosen < 0) continue;
            Round round = {logits + t * experts, ids + t * k, j, twice_eps, (A)tops[at]};
            A total = (A)totals[at], pull = round.part(chosen) / total * (A)widen(dweights[at]);
            sum += (chosen == e ? pull : (A)0) - round.part(e) / total * pull;
        }
        dlogits[i] = narrow<T>(sum);
    }
}
