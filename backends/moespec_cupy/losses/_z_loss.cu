#include "../gates/softmax.cuh"
#include "lse.cuh"

// Of masked tokens both are 0.
KERNEL squared_lse(const T *logits, const bool *mask, A *lse, A *squares, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A value = 0;
        if (!mask || mask[t]) value = lse_of<A>(experts, [&](i64 e) { return (A)widen(logits[t * experts + e]); });
        if (lane() == 0) {
            lse[t] = value;
            squares[t] = value * value;
        }
    }
}

KERNEL z_loss_backward(const T *logits, const bool *mask, const A *lse, const A *share, const A *dloss, T *dlogits, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = logits + t * experts;
        bool counts = !mask || mask[t];
        Softmax<A> row = {0, 1};
        if (counts) row = softmax_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
        A scale = 2 * *dloss * (*share * lse[t]);
        for (i64 e = lane(); e < experts; e += 32) dlogits[t * experts + e] = narrow<T>(counts ? scale * row.at(widen(x[e])) : (A)0);
    }
}
