// taken, combine [tokens, experts, capacity]: False and 0 before.
KERNEL fill_places(const i64 *ids, const i64 *place, const T *weights, bool *taken, T *combine, i64 entries, i64 choices, i64 experts, i64 capacity) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        if (place[i] < 0) continue;
        i64 spot = (i / choices * experts + ids[i]) * capacity + place[i];
        taken[spot] = true;
        combine[spot] = weights[i];
    }
}

KERNEL read_places(const i64 *ids, const i64 *place, const T *dcombine, T *dweights, i64 entries, i64 choices, i64 experts, i64 capacity) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        dweights[i] = place[i] < 0 ? narrow<T>((A)0) : dcombine[(i / choices * experts + ids[i]) * capacity + place[i]];
    }
}
