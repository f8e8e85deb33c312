#include "order.cuh"

// What a group is judged by: the sum of its two largest scores, or the largest.
template <class V, class Score> __device__ inline V judged_by(i64 first, i64 size, bool two, Score score) {
    Candidate best = {0, -1}, next = {0, -1};
#pragma unroll 1
    for (i64 e = first; e < first + size; e++) {
        Candidate c = {order_key(score(e)), e};
        if (before(c, best)) next = best;
        else if (before(c, next)) next = c;
        if (before(c, best)) best = c;
    }
    return two ? score(best.index) + score(next.index) : score(best.index);
}

// kept [T, groups], or null: no limit.
KERNEL select_experts(const T *scores, const U *bias, bool *kept, i64 *ids, i64 tokens, i64 experts, i64 k,
                      i64 groups, i64 keep, bool two, bool raw, A fill) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        i64 size = experts / groups;
        bool *limit = kept ? kept + t * groups : kept;
        auto score = [&](i64 e) { return (A)widen(scores[t * experts + e]); };
        auto biased = [&](i64 e) { return bias ? score(e) + (A)widen(bias[e]) : score(e); };
        if (kept) {
            for (i64 g = lane(); g < groups; g += 32) limit[g] = false;
            __syncwarp();
            choose(keep, groups, [&](i64 g) {
                return order_key(judged_by<A>(g * size, size, two, [&](i64 e) { return raw ? score(e) : biased(e); }));
            }, [&](i64 j, i64 g) {
                if (mine(j)) limit[g] = true;
            });
            __syncwarp();
        }
        choose(k, experts, [&](i64 e) { return order_key(kept && !limit[e / size] ? fill : biased(e)); }, [&](i64 j, i64 e) {
            if (mine(j)) ids[t * k + j] = e;
        });
    }
}
