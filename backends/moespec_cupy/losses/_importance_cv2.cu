// One block an expert: the sum of its weights, entries order[offsets[e]] .., in a fixed order.
KERNEL add_importance(const T *weights, const i64 *order, const i64 *offsets, A *importance, i64 experts) {
    for (i64 e = blockIdx.x; e < experts; e += gridDim.x) {
        f64 sum = 0;
        for (i64 at = offsets[e] + threadIdx.x; at < offsets[e + 1]; at += blockDim.x) sum += widen(weights[order[at]]);
        sum = block_sum(sum);
        if (threadIdx.x == 0) importance[e] = narrow<A>(sum);
    }
}

KERNEL importance_to_weights(const i64 *ids, const A *dimportance, T *dweights, i64 entries, i64 experts) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 e = legal(ids[i], experts);
        dweights[i] = narrow<T>(e < 0 ? (A)0 : dimportance[e]);
    }
}
