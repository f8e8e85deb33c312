#include "../gates/softmax.cuh"
#include "lse.cuh"

// 0 log 0 = 0.
__device__ inline A log_probability(T x, A lse) { return widen(x) == -infinity<A>() ? (A)0 : (A)widen(x) - lse; }

// One row, by one warp; lse and entropy are 0 of masked tokens.
KERNEL router_entropy(const T *logits, const bool *mask, A *lse, A *entropy, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = logits + t * experts;
        A all = 0, sum = 0;
        if (!mask || mask[t]) {
            Softmax<A> row = softmax_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
            all = lse_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
            for (i64 e = lane(); e < experts; e += 32) sum -= row.at(widen(x[e])) * log_probability(x[e], all);
            sum = warp_sum(sum);
        }
        if (lane() == 0) {
            lse[t] = all;
            entropy[t] = sum;
        }
    }
}

KERNEL router_entropy_backward(const T *logits, const bool *mask, const A *lse, const A *entropy, const A *share, const A *dloss, T *dlogits,
                               i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = logits + t * experts;
        bool counts = !mask || mask[t];
        Softmax<A> row = {0, 1};
        if (counts) row = softmax_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
        A scale = -*dloss * *share;
        for (i64 e = lane(); e < experts; e += 32) {
            A d = counts ? scale * row.at(widen(x[e])) * (log_probability(x[e], lse[t]) + entropy[t]) : (A)0;
            dlogits[t * experts + e] = narrow<T>(d);
        }
    }
}
