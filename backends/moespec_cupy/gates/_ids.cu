// Routings: what is kept of them, and where they come from.

KERNEL where_kept(const T *values, const i64 *ids, T *kept, i64 size) {
    for (i64 i = thread_index(); i < size; i += thread_count()) kept[i] = ids[i] < 0 ? narrow<T>((A)0) : values[i];
}

KERNEL limit_ids(const i64 *ids, i64 *kept, i64 size, i64 experts) {
    for (i64 i = thread_index(); i < size; i += thread_count()) kept[i] = legal(ids[i], experts);
}

KERNEL lookup(const i64 *tokens, const i64 *table, i64 *ids, i64 size, i64 k, i64 vocabulary) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        i64 token = legal(tokens[i / k], vocabulary);
        ids[i] = token < 0 ? -1 : table[token * k + i % k];
    }
}

KERNEL of_kind(const i64 *ids, const i64 *kinds, i64 *kept, i64 size, i64 k, bool other) {
    for (i64 i = thread_index(); i < size; i += thread_count()) kept[i] = (kinds[i / k] != 0) == other ? ids[i] : -1;
}
