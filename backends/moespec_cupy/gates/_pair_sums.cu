KERNEL pair_sums(const T *first, const U *second, T *logits, i64 size, i64 n, i64 m) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        logits[i] = narrow<T>((A)widen(first[i / m]) + (A)widen(second[i / (n * m) * m + i % m]));
}

// One warp an entry of the first half.
KERNEL pair_sums_to_first(const T *dlogits, T *dfirst, i64 size, i64 m) {
    for (i64 i = warp_index(); i < size; i += warp_count()) {
        A sum = 0;
        for (i64 b = lane(); b < m; b += 32) sum += (A)widen(dlogits[i * m + b]);
        sum = warp_sum(sum);
        if (lane() == 0) dfirst[i] = narrow<T>(sum);
    }
}

// One thread an entry of the second.
KERNEL pair_sums_to_second(const T *dlogits, U *dsecond, i64 size, i64 n, i64 m) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        A sum = 0;
        for (i64 a = 0; a < n; a++) sum += (A)widen(dlogits[(i / m * n + a) * m + i % m]);
        dsecond[i] = narrow<U>(sum);
    }
}
