#include "order.cuh"

KERNEL topk(const T *scores, i64 *ids, i64 tokens, i64 experts, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        Candidate best = EVERYBODY_LEFT;
        for (i64 j = 0; j < k; j++) {
            best = next_best(best, experts, [&](i64 e) { return order_key(scores[t * experts + e]); });
            if (lane() == 0) ids[t * k + j] = best.index;
        }
    }
}
