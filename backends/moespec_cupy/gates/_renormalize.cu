#include "weigh.cuh"

KERNEL renormalize(const T *chosen, const i64 *ids, T *weights, i64 tokens, i64 k, i64 norm, A eps, A scale, A p) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return (A)widen(chosen[t * k + j]); };
        Normaliser<A> n = normaliser_of<A>(k, norm, eps, scale, p, live, c);
        for (i64 j = lane(); j < k; j += 32) weights[t * k + j] = narrow<T>(live(j) ? n.weight(c(j)) : (A)0);
    }
}

KERNEL renormalize_backward(const T *chosen, const i64 *ids, const T *dweights, T *dchosen, i64 tokens, i64 k,
                            i64 norm, A eps, A scale, A p) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return (A)widen(chosen[t * k + j]); };
        auto d = [&](i64 j) { return (A)widen(dweights[t * k + j]); };
        Normaliser<A> n = normaliser_of<A>(k, norm, eps, scale, p, live, c);
        A through = through_total(n, k, live, c, d);
        for (i64 j = lane(); j < k; j += 32) dchosen[t * k + j] = narrow<T>(live(j) ? n.back(d(j), c(j), through) : (A)0);
    }
}
