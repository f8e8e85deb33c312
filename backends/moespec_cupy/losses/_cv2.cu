// The squared coefficient of variation of v [n], with the population variance; 0 where the mean is 0.  One block each.

struct Moments {
    A mean, variance;
};

__device__ inline Moments moments(const A *v, i64 n) {
    A sum = 0, squares = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += v[i];
    A mean = block_sum(sum) / (A)n;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) squares += (v[i] - mean) * (v[i] - mean);
    return {mean, block_sum(squares) / (A)n};
}

KERNEL cv2(const A *v, A *loss, i64 n) {
    Moments m = moments(v, n);
    A square = m.mean * m.mean;
    if (threadIdx.x == 0) *loss = square == 0 ? (A)0 : m.variance / square;
}

KERNEL cv2_backward(const A *v, const A *dloss, A *dv, i64 n) {
    Moments m = moments(v, n);
    A square = m.mean * m.mean, ratio = m.mean == 0 ? (A)0 : m.variance / m.mean;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
        dv[i] = *dloss * (square == 0 ? (A)0 : (A)2 / (A)n * (v[i] - m.mean - ratio) / square);
    }
}
