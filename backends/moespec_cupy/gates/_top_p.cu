#include "order.cuh"
#include "untake.cuh"

// The list ends when the sum before has reached p; a sum with NaN never does.
KERNEL top_p(const T *scores, A p, i64 *ids, T *weights, i64 tokens, i64 experts, i64 most) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *x = scores + t * experts;
        Candidate best = EVERYBODY_LEFT;
        A before = 0;
        bool reached = false;
        for (i64 j = 0; j < most; j++) {
            reached = reached || before >= p;
            if (!reached) {                                  // the same in all lanes
                best = next_best(best, experts, [&](i64 e) { return order_key(x[e]); });
                before += widen(x[best.index]);
            }
            if (lane() == 0) {
                ids[t * most + j] = reached ? -1 : best.index;
                weights[t * most + j] = reached ? narrow<T>((A)0) : x[best.index];
            }
        }
    }
}

KERNEL take_scores(const T *scores, const i64 *ids, T *weights, i64 entries, i64 choices, i64 experts) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 e = legal(ids[i], experts);
        weights[i] = e >= 0 ? scores[i / choices * experts + e] : narrow<T>((A)0);
    }
}

KERNEL take_scores_backward(const T *dweights, const i64 *ids, T *dscores, i64 tokens, i64 experts, i64 choices) {
    for (i64 i = thread_index(); i < tokens * experts; i += thread_count()) {
        i64 row = i / experts * choices;
        dscores[i] = narrow<T>(untaken<A>(i % experts, choices, [&](i64 j) { return ids[row + j]; }, [&](i64 j) { return widen(dweights[row + j]); }));
    }
}
