// The mean over the tokens that count, in a fixed order; added up in float64.  One block.

KERNEL valid_mean(const A *values, const bool *mask, A *mean, A *share, i64 tokens) {
    f64 sum = 0, counted = 0;
    for (i64 t = threadIdx.x; t < tokens; t += blockDim.x) {
        if (mask && !mask[t]) continue;
        sum += values[t];
        counted += 1;
    }
    sum = block_sum(sum);
    counted = block_sum(counted);
    if (threadIdx.x == 0) {
        *mean = narrow<A>(sum / (counted > 1 ? counted : 1));
        *share = narrow<A>(1 / (counted > 1 ? counted : 1));
    }
}

KERNEL total(const A *values, A *sum, i64 n) {
    f64 all = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) all += values[i];
    all = block_sum(all);
    if (threadIdx.x == 0) *sum = narrow<A>(all);
}
