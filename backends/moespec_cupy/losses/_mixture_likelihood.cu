#include "../gates/softmax.cuh"

// One warp a token.
KERNEL responsibilities(const A *joint, T *posterior, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const A *own = joint + t * experts;
        Softmax<A> row = softmax_of<A>(experts, [&](i64 e) { return own[e]; });
        for (i64 e = lane(); e < experts; e += 32) posterior[t * experts + e] = narrow<T>(row.at(own[e]));
    }
}

// Both cotangents may be missing.
KERNEL mixture_likelihood_backward(const T *logits, const A *joint, const A *share, const A *dloss, const T *dposterior,
                                   T *dlogits, T *devidence, i64 tokens, i64 experts) {
    A scale = dloss ? *share * *dloss : (A)0;
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *s = logits + t * experts;
        const A *own = joint + t * experts;
        Softmax<A> prior = softmax_of<A>(experts, [&](i64 e) { return (A)widen(s[e]); });
        Softmax<A> after = softmax_of<A>(experts, [&](i64 e) { return own[e]; });
        auto asked = [&](i64 e) { return dposterior ? (A)widen(dposterior[t * experts + e]) : (A)0; };
        A along = 0, whole = 0;
        for (i64 e = lane(); e < experts; e += 32) along += after.at(own[e]) * asked(e);
        along = warp_sum(along);
        auto to_evidence = [&](i64 e) { return after.at(own[e]) * (asked(e) - along) - scale * after.at(own[e]); };
        for (i64 e = lane(); e < experts; e += 32) whole += to_evidence(e);
        whole = warp_sum(whole);
        for (i64 e = lane(); e < experts; e += 32) {
            dlogits[t * experts + e] = narrow<T>(to_evidence(e) - prior.at(widen(s[e])) * whole);
            devidence[t * experts + e] = narrow<T>(to_evidence(e));
        }
    }
}
