#include "accept.cuh"
#include "order.cuh"
#include "scatter.cuh"
#include "softmax.cuh"

// `pair`: both candidates, also a rejected one; of a given routing that is the best of the others.
KERNEL gshard(const T *logits, const U *uniform, const i64 *given, i64 *pair, i64 *kept, T *weights,
              i64 tokens, i64 experts, A times, A by) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        i64 best[2] = {-1, -1};
        choose(2, experts, [&](i64 e) { return order_key(row.at(logit(e))); }, [&](i64 j, i64 e) { best[j == 0 ? 0 : 1] = e; });
        if (given) {
            i64 own = legal(given[2 * t], experts), second = legal(given[2 * t + 1], experts);
            best[1] = second >= 0 ? second : best[0] == own ? best[1] : best[0];
            best[0] = own;
        }
        A one = best[0] < 0 ? (A)0 : row.at(logit(best[0])), two = best[1] < 0 ? (A)0 : row.at(logit(best[1]));
        A total = one + two;
        bool second = given ? legal(given[2 * t + 1], experts) >= 0 : accepted(two / total, times, by, (A)widen(uniform[t]));
        if (lane() < 2) {
            i64 at = 2 * t + lane(), e = lane() == 0 ? best[0] : best[1];
            bool keeps = e >= 0 && (lane() == 0 || second);
            pair[at] = e;
            kept[at] = keeps ? e : -1;
            weights[at] = narrow<T>(keeps ? (lane() == 0 ? one : two) / total : (A)0);
        }
    }
}

KERNEL gshard_backward(const T *logits, const i64 *pair, const i64 *kept, const T *dweights, T *dlogits, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        auto id = [&](i64 j) { return pair[2 * t + j]; };
        auto d = [&](i64 j) { return kept[2 * t + j] < 0 ? (A)0 : (A)widen(dweights[2 * t + j]); };
        Softmax<A> row = softmax_of<A>(experts, logit);
        auto prob = [&](i64 j) { return id(j) < 0 ? (A)0 : row.at(logit(id(j))); };
        A total = prob(0) + prob(1), through = d(0) * (prob(0) / total) + d(1) * (prob(1) / total);
        auto dprob = [&](i64 j) { return id(j) < 0 ? (A)0 : (d(j) - through) / total; };
        A inner = prob(0) * dprob(0) + prob(1) * dprob(1);
        for (i64 e = lane(); e < experts; e += 32) dlogits[t * experts + e] = narrow<T>(row.at(logit(e)) * (0 - inner));
        __syncwarp();
        scatter_row<A>(2, id, dprob, [&](i64 e, A sum) { dlogits[t * experts + e] = narrow<T>(row.at(logit(e)) * (sum - inner)); });
    }
}
