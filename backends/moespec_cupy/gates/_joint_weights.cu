// What a token's scores are divided by; 1 if it has none.
template <class V, class Live, class Chosen, class Shared>
__device__ inline V joint_total(i64 k, i64 m, V eps, Live live, Chosen chosen, Shared shared) {
    V sum = 0;
    int any = m > 0;
    for (i64 j = lane(); j < k; j += 32) {
        if (!live(j)) continue;
        sum += chosen(j);
        any = 1;
    }
    for (i64 i = lane(); i < m; i += 32) sum += shared(i);
    sum = warp_sum(sum);
    return warp_sum(any) > 0 ? sum + eps : (V)1;
}

KERNEL joint_weights(const T *chosen, const U *shared, const i64 *ids, T *weights, U *shared_weights,
                     i64 tokens, i64 k, i64 m, A eps, A scale) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return (A)widen(chosen[t * k + j]); };
        auto s = [&](i64 i) { return (A)widen(shared[t * m + i]); };
        A total = joint_total(k, m, eps, live, c, s);
        for (i64 j = lane(); j < k; j += 32) weights[t * k + j] = narrow<T>(live(j) ? c(j) / total * scale : (A)0);
        for (i64 i = lane(); i < m; i += 32) shared_weights[t * m + i] = narrow<U>(s(i) / total * scale);
    }
}

KERNEL joint_weights_backward(const T *chosen, const U *shared, const i64 *ids, const T *dweights, const U *dshared_weights,
                              T *dchosen, U *dshared, i64 tokens, i64 k, i64 m, A eps, A scale) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto live = [&](i64 j) { return ids[t * k + j] >= 0; };
        auto c = [&](i64 j) { return (A)widen(chosen[t * k + j]); };
        auto s = [&](i64 i) { return (A)widen(shared[t * m + i]); };
        auto dw = [&](i64 j) { return dweights ? (A)widen(dweights[t * k + j]) : (A)0; };
        auto dv = [&](i64 i) { return dshared_weights ? (A)widen(dshared_weights[t * m + i]) : (A)0; };
        A total = joint_total(k, m, eps, live, c, s), through = 0;
        for (i64 j = lane(); j < k; j += 32)
            if (live(j)) through += dw(j) * c(j);
        for (i64 i = lane(); i < m; i += 32) through += dv(i) * s(i);
        through = warp_sum(through) / total;
        for (i64 j = lane(); j < k; j += 32) dchosen[t * k + j] = narrow<T>(live(j) ? (dw(j) - through) / total * scale : (A)0);
        for (i64 i = lane(); i < m; i += 32) dshared[t * m + i] = narrow<U>((dv(i) - through) / total * scale);
    }
}
