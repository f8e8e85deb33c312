#include "order.cuh"
#include "scatter.cuh"
#include "scores.cuh"
#include "weigh.cuh"

// Score, select, weigh, in one pass: a warp a token.  `selected`: only what was selected is scored.
KERNEL route(const T *logits, const i64 *given, i64 *ids, T *weights, i64 tokens, i64 experts, i64 k,
             i64 kind, bool selected, i64 norm, A eps, A scale, A p) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        i64 *row = ids + t * k;
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        auto id = [&](i64 j) { return legal(row[j], experts); };
        Scores<A> s = {kind, {0, 1}};
        if (!selected) s = scores_of<A>(kind, experts, logit);
        for (i64 j = lane(); given && j < k; j += 32) row[j] = given[t * k + j];
        if (!given) {
            choose(k, experts, [&](i64 e) { return order_key(selected ? logit(e) : s.at(logit(e))); }, [&](i64 j, i64 e) {
                if (mine(j)) row[j] = e;
            });
        }
        if (selected) s = scores_of<A>(kind, k, [&](i64 j) { return id(j) < 0 ? -infinity<A>() : logit(id(j)); });
        auto live = [&](i64 j) { return id(j) >= 0; };
        auto chosen = [&](i64 j) { return s.at(logit(id(j))); };
        Normaliser<A> n = normaliser_of<A>(k, norm, eps, scale, p, live, chosen);
        for (i64 j = lane(); j < k; j += 32) weights[t * k + j] = narrow<T>(live(j) ? n.weight(chosen(j)) : (A)0);
    }
}

// Scores are computed again; of a softmax over all experts every logit learns.
KERNEL route_backward(const T *logits, const i64 *ids, const T *dweights, T *dlogits, i64 tokens, i64 experts, i64 k,
                      i64 kind, bool selected, i64 norm, A eps, A scale, A p) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto logit = [&](i64 e) { return (A)widen(logits[t * experts + e]); };
        auto id = [&](i64 j) { return legal(ids[t * k + j], experts); };
        auto live = [&](i64 j) { return id(j) >= 0; };
        auto d = [&](i64 j) { return (A)widen(dweights[t * k + j]); };
        Scores<A> s = selected ? scores_of<A>(kind, k, [&](i64 j) { return live(j) ? logit(id(j)) : -infinity<A>(); })
                               : scores_of<A>(kind, experts, logit);
        auto chosen = [&](i64 j) { return s.at(logit(id(j))); };
        Normaliser<A> n = normaliser_of<A>(k, norm, eps, scale, p, live, chosen);
        A through = through_total(n, k, live, chosen, d), inner = 0;
        auto dchosen = [&](i64 j) { return n.back(d(j), chosen(j), through); };
        for (i64 j = lane(); kind == SOFTMAX && j < k; j += 32)
            if (live(j)) inner += chosen(j) * dchosen(j);
        inner = warp_sum(inner);
        for (i64 e = lane(); e < experts; e += 32)
            dlogits[t * experts + e] = narrow<T>(kind == SOFTMAX && !selected ? s.at(logit(e)) * (0 - inner) : (A)0);
        __syncwarp();
        scatter_row<A>(k, id, [&](i64 j) {
            if (!selected) return dchosen(j);
            return kind == SOFTMAX ? chosen(j) * (dchosen(j) - inner) : score_slope(kind, logit(id(j))) * dchosen(j);
        }, [&](i64 e, A sum) {
            if (!selected) sum = kind == SOFTMAX ? s.at(logit(e)) * (sum - inner) : score_slope(kind, logit(e)) * sum;
            dlogits[t * experts + e] = narrow<T>(sum);
        });
    }
}
