#include "softmax.cuh"

KERNEL probabilities(const T *logits, A *probs, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        for (i64 e = lane(); e < experts; e += 32) probs[t * experts + e] = row.at(logit(e));
    }
}

// Weights under a mask, i or -1 in column i.
KERNEL masked(const T *logits, const i64 *mask, i64 *ids, T *weights, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        A total = 0;
        for (i64 e = lane(); e < experts; e += 32)
            if (mask[t * experts + e] >= 0) total += row.at(logit(e));
        total = warp_sum(total);
        for (i64 e = lane(); e < experts; e += 32) {
            bool on = mask[t * experts + e] >= 0;
            ids[t * experts + e] = on ? e : -1;
            weights[t * experts + e] = narrow<T>(on ? row.at(logit(e)) / total : (A)0);
        }
    }
}

// The mask is constant; inside it the quotient rule, then the softmax.
KERNEL masked_backward(const T *logits, const i64 *ids, const T *dweights, T *dlogits, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto on = [&](i64 e) { return ids[t * experts + e] >= 0; };
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        auto d = [&](i64 e) { return (A)widen(dweights[t * experts + e]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        A total = 0, through = 0, inner = 0;
        for (i64 e = lane(); e < experts; e += 32)
            if (on(e)) total += row.at(logit(e));
        total = warp_sum(total);
        for (i64 e = lane(); e < experts; e += 32)
            if (on(e)) through += d(e) * (row.at(logit(e)) / total);
        through = warp_sum(through);
        auto dprob = [&](i64 e) { return on(e) ? (d(e) - through) / total : (A)0; };
        for (i64 e = lane(); e < experts; e += 32) inner += row.at(logit(e)) * dprob(e);
        inner = warp_sum(inner);
        for (i64 e = lane(); e < experts; e += 32) dlogits[t * experts + e] = narrow<T>(row.at(logit(e)) * (dprob(e) - inner));
    }
}
