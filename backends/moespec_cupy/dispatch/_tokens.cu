// Arithmetic beside the experts, entry by entry and row by row.

KERNEL add(const T *a, const U *b, T *y, A scale, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = narrow<T>(((A)widen(a[i]) + (A)widen(b[i])) * scale);
}

KERNEL scale_by(const T *x, U *y, A scale, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = narrow<U>((A)widen(x[i]) * scale);
}

KERNEL add_bias(const T *x, const U *b, T *y, i64 n, i64 width) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = narrow<T>((A)widen(x[i]) + (A)widen(b[i % width]));
}

KERNEL gate_rows(const T *x, const U *gate, T *y, i64 n, i64 width) {
    for (i64 i = thread_index(); i < n; i += thread_count()) y[i] = narrow<T>((A)widen(gate[i / width]) * (A)widen(x[i]));
}

// One warp a row: times the sum of the weights of its entries, order[offsets[n]] ..; a row without entries is 0, whatever it holds.
KERNEL weigh_rows(const T *rows, const U *weights, const i64 *order, const i64 *offsets, T *out, i64 count, i64 width) {
    for (i64 n = warp_index(); n < count; n += warp_count()) {
        A scale = 0;
        bool owned = offsets[n] < offsets[n + 1];
        for (i64 at = offsets[n]; at < offsets[n + 1]; at++) scale += (A)widen(weights[order[at]]);
        for (i64 d = lane(); d < width; d += 32) out[n * width + d] = narrow<T>(owned ? scale * (A)widen(rows[n * width + d]) : (A)0);
    }
}

// One warp an entry: the inner product of its row in `a` and in `b`; without `row` entry i has row i.
KERNEL inner_rows(const T *a, const T *b, const i64 *row, U *out, i64 entries, i64 width, i64 count) {
    for (i64 i = warp_index(); i < entries; i += warp_count()) {
        i64 n = row ? legal(row[i], count) : i;
        A sum = 0;
        for (i64 d = lane(); n >= 0 && d < width; d += 32) sum += (A)widen(a[n * width + d]) * (A)widen(b[n * width + d]);
        sum = warp_sum(sum);
        if (lane() == 0) out[i] = narrow<U>(sum);
    }
}
