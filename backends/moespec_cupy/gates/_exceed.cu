#include "softmax.cuh"

KERNEL exceed(const T *logits, const U *thresholds, i64 *ids, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        for (i64 e = lane(); e < experts; e += 32) ids[t * experts + e] = row.at(logit(e)) > (A)widen(thresholds[e]) ? e : -1;
    }
}
