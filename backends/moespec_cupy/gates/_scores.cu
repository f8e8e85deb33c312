#include "scores.cuh"

// With ids: of the chosen logits, 0 at -1.
KERNEL score(const T *logits, const i64 *ids, T *scores, i64 size, i64 kind) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        scores[i] = narrow<T>(ids && ids[i] < 0 ? (A)0 : score_of(kind, (A)widen(logits[i])));
}

KERNEL score_backward(const T *logits, const i64 *ids, const T *dscores, T *dlogits, i64 size, i64 kind) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        dlogits[i] = narrow<T>(ids && ids[i] < 0 ? (A)0 : score_slope(kind, (A)widen(logits[i])) * widen(dscores[i]));
}
