#include "../columns.cuh"

// The inner products of rows (a warp each), or of columns (a lane each), of a and b.
KERNEL inner_of_rows(const T *a, const T *b, A *inner, i64 rows, i64 width) {
    for (i64 n = warp_index(); n < rows; n += warp_count()) {
        A sum = 0;
        for (i64 d = lane(); d < width; d += 32) sum += (A)widen(a[n * width + d]) * (A)widen(b[n * width + d]);
        sum = warp_sum(sum);
        if (lane() == 0) inner[n] = sum;
    }
}

KERNEL inner_of_columns(const T *a, const T *b, A *inner, i64 rows, i64 width) {
    column_sums<A>(rows, width, [&](i64 n, i64 d) { return (A)widen(a[n * width + d]) * (A)widen(b[n * width + d]); },
                   [&](i64 d, A sum) { inner[d] = sum; });
}

// Entry i belongs to line i / width or i % width.
KERNEL l2_normalize(const T *x, const U *scale, const A *squares, bool by_rows, A eps, T *y, i64 entries, i64 width) {
    A factor = scale ? (A)widen(*scale) : (A)1;
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        A norm = sqrt(squares[by_rows ? i / width : i % width]);
        y[i] = narrow<T>(factor * ((A)widen(x[i]) / (norm + eps)));
    }
}

// At x = 0 nothing is taken off: the map is linear there.
KERNEL l2_normalize_backward(const T *x, const U *scale, const A *squares, bool by_rows, A eps, const T *dy, const A *inner, T *dx,
                             i64 entries, i64 width) {
    A factor = scale ? (A)widen(*scale) : (A)1;
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 line = by_rows ? i / width : i % width;
        A norm = sqrt(squares[line]), unit = norm + eps;
        A along = norm * unit == 0 ? (A)0 : inner[line] / (norm * unit);
        dx[i] = narrow<T>(factor * (((A)widen(dy[i]) - (A)widen(x[i]) * along) / unit));
    }
}

// One block.
KERNEL scale_backward(const A *squares, const A *inner, A eps, U *dscale, i64 lines) {
    A sum = 0;
    for (i64 n = threadIdx.x; n < lines; n += blockDim.x) sum += inner[n] / (sqrt(squares[n]) + eps);
    sum = block_sum(sum);
    if (threadIdx.x == 0) *dscale = narrow<U>(sum);
}
