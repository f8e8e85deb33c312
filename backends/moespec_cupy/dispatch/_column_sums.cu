// Sums over the rows of a matrix: over chunks of rows first, then over the chunks, in ascending order; added up in float64.

KERNEL sum_rows(const T *x, const bool *mask, f64 *partial, i64 tokens, i64 width, i64 chunks) {
    for (i64 i = thread_index(); i < chunks * width; i += thread_count()) {
        i64 chunk = i / width, d = i % width, stop = (chunk + 1) * tokens / chunks;
        f64 sum = 0;
        for (i64 t = chunk * tokens / chunks; t < stop; t++) {
            if (!mask || mask[t]) sum += widen(x[t * width + d]);
        }
        partial[i] = sum;
    }
}

KERNEL sum_partial(const f64 *partial, U *sums, i64 width, i64 chunks) {
    for (i64 d = thread_index(); d < width; d += thread_count()) {
        f64 sum = 0;
        for (i64 c = 0; c < chunks; c++) sum += partial[c * width + d];
        sums[d] = narrow<U>(sum);
    }
}
