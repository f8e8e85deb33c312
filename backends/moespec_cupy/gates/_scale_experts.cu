KERNEL scale_experts(const T *weights, const i64 *ids, const U *scale, T *scaled, i64 size, i64 experts) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        i64 e = legal(ids[i], experts);
        scaled[i] = narrow<T>(e < 0 ? (A)0 : (A)widen(weights[i]) * (A)widen(scale[e]));
    }
}

// One warp an expert; its entries are order[offsets[e]] .. order[offsets[e + 1] - 1].
KERNEL scale_experts_to_scale(const T *weights, const T *dscaled, const i64 *order, const i64 *offsets, U *dscale, i64 experts) {
    for (i64 e = warp_index(); e < experts; e += warp_count()) {
        A sum = 0;
        for (i64 n = offsets[e] + lane(); n < offsets[e + 1]; n += 32) sum += (A)widen(weights[order[n]]) * (A)widen(dscaled[order[n]]);
        sum = warp_sum(sum);
        if (lane() == 0) dscale[e] = narrow<U>(sum);
    }
}
