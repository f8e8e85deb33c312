// In which order assignments are served, and which place each gets.

// Keys of at most 32 bits where the values have no more; FLOOR is after everybody.
constexpr i64 FLOOR = sizeof(T) < 8 ? -0x7f800002LL : -TOP_KEY, CEILING = sizeof(T) < 8 ? 0x7f800001LL : TOP_KEY;

__device__ inline i64 bounded_key(T x) {
    i64 key = order_key(x);
    return key > CEILING ? CEILING : key;
}

KERNEL value_keys(const T *values, i64 *keys, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) keys[i] = bounded_key(values[i]);
}

// The largest priority of a token's assignments.
KERNEL best_keys(const T *priority, const i64 *ids, i64 *keys, i64 tokens, i64 choices) {
    for (i64 t = thread_index(); t < tokens; t += thread_count()) {
        i64 best = FLOOR;
        for (i64 i = t * choices; i < (t + 1) * choices; i++) {
            i64 key = ids[i] >= 0 ? bounded_key(priority[i]) : FLOOR;
            best = key > best ? key : best;
        }
        keys[t] = best;
    }
}

// 32 bits of every key, as numbers that are not negative; `wide` keys have 64.
KERNEL key_words(const i64 *keys, i64 *words, i64 n, i64 shift, bool wide, bool descending) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        u64 key = (u64)keys[i] + (wide ? 1ULL << 63 : 1ULL << 31);
        words[i] = (i64)((descending ? ~key : key) >> shift & 0xffffffffULL);
    }
}

// Flat entries: the first choices of all tokens in their order (none: as they are), then the second ones ...
KERNEL choice_major(const i64 *served, i64 *entries, i64 tokens, i64 choices) {
    for (i64 i = thread_index(); i < tokens * choices; i += thread_count()) {
        i64 t = served ? served[i % tokens] : i % tokens;
        entries[i] = t * choices + i / tokens;
    }
}

KERNEL spread(const i64 *group, i64 *keys, i64 entries, i64 choices) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) keys[i] = group[i / choices];
}

// order: the entries by group, expert and turn; -1 behind the last.  place [entries], -1 before: those that get one of `capacity` places.
KERNEL give_places(const i64 *ids, const i64 *group, const i64 *order, i64 *place, i64 entries, i64 capacity) {
    for (i64 at = thread_index(); at < entries; at += thread_count()) {
        i64 entry = order[at], low = 0, high = at;              // high: the first place with the same group and expert
        if (entry < 0) continue;
        while (low < high) {
            i64 middle = (low + high) / 2, other = order[middle];
            if (ids[other] == ids[entry] && (!group || group[other] == group[entry])) high = middle;
            else low = middle + 1;
        }
        if (at - high < capacity) place[entry] = at - high;
    }
}

KERNEL keep_placed(const i64 *ids, const i64 *place, i64 *kept, i64 entries) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) kept[i] = place[i] >= 0 ? ids[i] : -1;
}
