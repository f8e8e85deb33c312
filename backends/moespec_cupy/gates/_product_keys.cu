#include "order.cuh"
#include "scatter.cuh"

// The k best pairs of the candidates left [T, h] and right [T, h], by the sum, ties to the lower id.
KERNEL best_pairs(const T *first, const U *second, const i64 *left, const i64 *right, i64 *ids, i64 tokens, i64 keys, i64 half, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        Candidate last = EVERYBODY_LEFT;
        for (i64 j = 0; j < k; j++) {
            Candidate best = {0, -1};
            for (i64 i = lane(); i < half * half; i += 32) {
                i64 p = left[t * half + i / half], q = right[t * half + i % half];
                Candidate c = {order_key((A)widen(first[t * keys + p]) + (A)widen(second[t * keys + q])), p * keys + q};
                if (comes_after(c, last) && before(c, best)) best = c;
            }
            last = warp_first(best);
            if (lane() == 0) ids[t * k + j] = last.index;
        }
    }
}

KERNEL pair_scores(const T *first, const U *second, const i64 *ids, T *scores, i64 entries, i64 choices, i64 keys) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 id = legal(ids[i], keys * keys), row = i / choices * keys;
        scores[i] = narrow<T>(id < 0 ? (A)0 : (A)widen(first[row + id / keys]) + (A)widen(second[row + id % keys]));
    }
}

KERNEL pair_scores_backward(const T *dscores, const i64 *ids, T *dfirst, U *dsecond, i64 tokens, i64 keys, i64 choices) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto id = [&](i64 j) { return legal(ids[t * choices + j], keys * keys); };
        auto d = [&](i64 j) { return (A)widen(dscores[t * choices + j]); };
        untake_row<A>(dfirst + t * keys, keys, choices, [&](i64 j) { return id(j) < 0 ? -1 : id(j) / keys; }, d);
        untake_row<A>(dsecond + t * keys, keys, choices, [&](i64 j) { return id(j) < 0 ? -1 : id(j) % keys; }, d);
    }
}
