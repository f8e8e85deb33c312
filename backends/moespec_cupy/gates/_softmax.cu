#include "softmax.cuh"

KERNEL softmax(const T *logits, T *probs, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = logits + t * experts;
        Softmax<A> row = softmax_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
        for (i64 e = lane(); e < experts; e += 32) probs[t * experts + e] = narrow<T>(row.at(widen(x[e])));
    }
}

// The probabilities are computed again: what was returned is rounded.
KERNEL softmax_backward(const T *logits, const T *dprobs, T *dlogits, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = logits + t * experts, *d = dprobs + t * experts;
        Softmax<A> row = softmax_of<A>(experts, [&](i64 e) { return (A)widen(x[e]); });
        A inner = 0;
        for (i64 e = lane(); e < experts; e += 32) inner += row.at(widen(x[e])) * widen(d[e]);
        inner = warp_sum(inner);
        for (i64 e = lane(); e < experts; e += 32) dlogits[t * experts + e] = narrow<T>(row.at(widen(x[e])) * (widen(d[e]) - inner));
    }
}
