#include "scatter.cuh"

KERNEL gather(const T *scores, const i64 *ids, A missing, T *chosen, i64 size, i64 k, i64 experts) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        i64 e = legal(ids[i], experts);
        chosen[i] = e < 0 ? narrow<T>(missing) : scores[i / k * experts + e];
    }
}

KERNEL gather_backward(const T *dchosen, const i64 *ids, T *dscores, i64 tokens, i64 k, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        untake_row<A>(dscores + t * experts, experts, k, [&](i64 j) { return legal(ids[t * k + j], experts); },
                      [&](i64 j) { return (A)widen(dchosen[t * k + j]); });
    }
}
