#include "softmax.cuh"

// What has no expert has no part, and weight 0.
KERNEL selected_softmax(const T *chosen, const i64 *ids, T *weights, i64 tokens, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return live(j) ? (A)widen(chosen[t * k + j]) : -infinity<A>(); };
        Softmax<A> row = softmax_of<A>(k, c);
        for (i64 j = lane(); j < k; j += 32) weights[t * k + j] = narrow<T>(live(j) ? row.at(c(j)) : (A)0);
    }
}

KERNEL selected_softmax_backward(const T *chosen, const i64 *ids, const T *dweights, T *dchosen, i64 tokens, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return live(j) ? (A)widen(chosen[t * k + j]) : -infinity<A>(); };
        auto d = [&](i64 j) { return (A)widen(dweights[t * k + j]); };
        Softmax<A> row = softmax_of<A>(k, c);
        A inner = 0;
        for (i64 j = lane(); j < k; j += 32)
            if (live(j)) inner += row.at(c(j)) * d(j);
        inner = warp_sum(inner);
        for (i64 j = lane(); j < k; j += 32) dchosen[t * k + j] = narrow<T>(live(j) ? row.at(c(j)) * (d(j) - inner) : (A)0);
    }
}
