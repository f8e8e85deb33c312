// Updates of a selection bias: by the counts, which are added up exactly; computed in float64 and rounded once.  One block.

__device__ inline i64 sum_of(const i64 *counts, i64 experts) {
    i64 total = 0;
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) total += counts[e];
    return block_sum(total);
}

// 1 below the mean load, -1 above it.
__device__ inline int below_mean(i64 count, i64 total, i64 experts) { return (total > count * experts) - (total < count * experts); }

KERNEL move_by_sign(const T *bias, const i64 *counts, f64 rate, bool centred, T *updated, i64 experts) {
    i64 total = sum_of(counts, experts), sides = 0;
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) sides += below_mean(counts[e], total, experts);
    f64 mean = (f64)block_sum(sides) / (f64)(experts > 0 ? experts : 1);
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) {
        f64 side = below_mean(counts[e], total, experts) - (centred ? mean : 0.0);
        updated[e] = narrow<T>((f64)widen(bias[e]) + rate * side);
    }
}

// The first `real` experts move, if there are assignments at all.
KERNEL move_in_proportion(const T *bias, const i64 *counts, f64 rate, f64 target, i64 real, T *updated, i64 experts) {
    i64 total = sum_of(counts, experts);
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) {
        f64 far = e < real && total > 0 ? target - (f64)counts[e] / (f64)total : 0.0;
        updated[e] = narrow<T>((f64)widen(bias[e]) + rate * far);
    }
}
