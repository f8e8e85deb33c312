#include "order.cuh"

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
