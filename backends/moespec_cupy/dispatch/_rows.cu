// Who goes to a row: usually one entry, but a row may be named more than once.

// first [count], TOP_KEY before; times [count], zeros before.  Minimum and count do not depend on who comes first.
KERNEL find_rows(const i64 *row, i64 *first, i64 *times, i64 entries, i64 count) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 n = legal(row[i], count);
        if (n < 0) continue;
        atomicMin(first + n, i);
        count_up(times + n);
    }
}
