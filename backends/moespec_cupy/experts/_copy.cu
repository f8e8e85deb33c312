// Ids first .. last-1 are copy experts.
__device__ inline bool is_copy(i64 id, i64 first, i64 last) { return id >= first && id < last; }

// y = x times the sum of the token's weights of copy experts; 0 where it has none.
KERNEL weigh_copies(const T *x, const i64 *ids, const U *weights, T *y, i64 tokens, i64 choices, i64 width, i64 first, i64 last) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A total = 0;
        bool some = false;
        for (i64 j = 0; j < choices; j++) {
            if (!is_copy(ids[t * choices + j], first, last)) continue;
            total += (A)widen(weights[t * choices + j]);
            some = true;
        }
        for (i64 d = lane(); d < width; d += 32) y[t * width + d] = narrow<T>(some ? total * (A)widen(x[t * width + d]) : (A)0);
    }
}

KERNEL copies_to_weights(const T *x, const i64 *ids, const T *dy, U *dweights, i64 tokens, i64 choices, i64 width, i64 first, i64 last) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A inner = 0;
        for (i64 d = lane(); d < width; d += 32) inner += (A)widen(x[t * width + d]) * (A)widen(dy[t * width + d]);
        inner = warp_sum(inner);
        for (i64 j = lane(); j < choices; j += 32)
            dweights[t * choices + j] = narrow<U>(is_copy(ids[t * choices + j], first, last) ? inner : (A)0);
    }
}
