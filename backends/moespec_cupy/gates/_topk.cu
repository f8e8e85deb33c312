#include "order.cuh"

KERNEL topk(const T *scores, i64 *ids, i64 tokens, i64 experts, i64 k) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        choose(k, experts, [&](i64 e) { return order_key(scores[t * experts + e]); }, [&](i64 j, i64 e) {
            if (mine(j)) ids[t * k + j] = e;
        });
    }
}
