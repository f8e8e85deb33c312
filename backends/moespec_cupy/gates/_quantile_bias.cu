#include "order.cuh"
#include "rank.cuh"

// Of every token the best biased score that was not selected.
KERNEL token_limits(const T *scores, const U *bias, A *limits, i64 tokens, i64 experts, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto biased = [&](i64 e) { return (A)widen(scores[t * experts + e]) + (A)widen(bias[e]); };
        Candidate best = EVERYBODY_LEFT;
        for (i64 j = 0; j <= k; j++) best = next_best(best, experts, [&](i64 e) { return order_key(biased(e)); });
        if (lane() == 0) limits[t] = biased(best.index);
    }
}

// The bias at which an expert's share of the tokens, m of them, is above their limits.  One block an expert.
KERNEL quantile_bias(const T *scores, const A *limits, U *updated, i64 tokens, i64 experts, i64 m) {
    for (i64 e = blockIdx.x; e < experts; e += gridDim.x) {
        Ranked at = find_rank<A>(tokens, m, [&](i64 t) { return order_key((A)widen(scores[t * experts + e]) - limits[t]); });
        if (threadIdx.x == 0) updated[e] = narrow<U>(-Digits<A>::value(at.digits));
    }
}
