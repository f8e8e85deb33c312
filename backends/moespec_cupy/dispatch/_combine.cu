// Ascending order of choice; without weights they are 1.
KERNEL combine(const T *rows, const U *weights, const i64 *row, T *y, i64 tokens, i64 choices, i64 width, i64 count) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        for (i64 d = lane(); d < width; d += 32) {
            A sum = 0;
            for (i64 j = 0; j < choices; j++) {
                i64 n = legal(row[t * choices + j], count);
                if (n >= 0) sum += (weights ? (A)widen(weights[t * choices + j]) : (A)1) * (A)widen(rows[n * width + d]);
            }
            y[t * width + d] = narrow<T>(sum);
        }
    }
}

// Row n adds up its entries, which are order[offsets[n]] .. in ascending order; without offsets it has one at most, order[n].
KERNEL combine_to_rows(const U *weights, const T *dy, const i64 *order, const i64 *offsets, T *drows, i64 choices, i64 width, i64 count) {
    for (i64 n = warp_index(); n < count; n += warp_count()) {
        i64 first = offsets ? offsets[n] : n, stop = offsets ? offsets[n + 1] : n + 1;
        for (i64 d = lane(); d < width; d += 32) {
            A sum = 0;
            for (i64 at = first; at < stop; at++) {
                i64 i = order[at];
                if (i >= 0) sum += (weights ? (A)widen(weights[i]) : (A)1) * (A)widen(dy[i / choices * width + d]);
            }
            drows[n * width + d] = narrow<T>(sum);
        }
    }
}

// One warp an assignment: the inner product of a token with one of its rows.
KERNEL combine_to_weights(const T *rows, const T *dy, const i64 *row, U *dweights, i64 entries, i64 choices, i64 width, i64 count) {
    for (i64 i = warp_index(); i < entries; i += warp_count()) {
        i64 n = legal(row[i], count);
        A sum = 0;
        for (i64 d = lane(); n >= 0 && d < width; d += 32) sum += (A)widen(rows[n * width + d]) * (A)widen(dy[i / choices * width + d]);
        sum = warp_sum(sum);
        if (lane() == 0) dweights[i] = narrow<U>(sum);
    }
}
