// One warp a row of the result; nobody's rows are 0.  Bits pass unchanged.
KERNEL take_rows(const T *x, const i64 *index, T *out, i64 count, i64 width, i64 known) {
    for (i64 n = warp_index(); n < count; n += warp_count()) {
        i64 from = legal(index[n], known);
        for (i64 d = lane(); d < width; d += 32) out[n * width + d] = from >= 0 ? x[from * width + d] : narrow<T>((A)0);
    }
}
