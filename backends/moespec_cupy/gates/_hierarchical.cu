#include "order.cuh"
#include "scatter.cuh"
#include "softmax.cuh"

// One warp a chosen group.  shares: the softmax inside it.
KERNEL hierarchical(const i64 *group_ids, const U *group_weights, const T *logits, const i64 *given, i64 *ids, A *shares, T *weights,
                    i64 count, i64 chosen, i64 experts, i64 k, i64 groups) {
    for (i64 i = warp_index(); i < count; i += warp_count()) {
        i64 group = legal(group_ids[i], groups), size = experts / groups, *row = ids + i * k;
        auto logit = [&](i64 e) { return (A)widen(logits[i / chosen * experts + e]); };
        if (given || group < 0) {
            for (i64 j = lane(); j < k; j += 32) {
                i64 e = group < 0 ? -1 : legal(given[i * k + j], experts);
                row[j] = e >= 0 && e / size == group ? e : -1;
            }
        } else {
            choose(k, size, [&](i64 e) { return order_key(logit(group * size + e)); }, [&](i64 j, i64 e) {
                if (mine(j)) row[j] = group * size + e;
            });
        }
        Softmax<A> share = softmax_of<A>(k, [&](i64 j) { return row[j] < 0 ? -infinity<A>() : logit(row[j]); });
        for (i64 j = lane(); j < k; j += 32) {
            A s = row[j] < 0 ? (A)0 : share.at(logit(row[j]));
            shares[i * k + j] = s;
            weights[i * k + j] = narrow<T>(row[j] < 0 ? (A)0 : (A)widen(group_weights[i]) * s);
        }
    }
}

KERNEL hierarchical_to_chosen(const U *group_weights, const i64 *ids, const A *shares, const T *dweights, U *dgroups, A *dchosen,
                              i64 count, i64 k) {
    for (i64 i = warp_index(); i < count; i += warp_count()) {
        A inner = 0, by = (A)widen(group_weights[i]);
        auto d = [&](i64 j) { return ids[i * k + j] < 0 ? (A)0 : (A)widen(dweights[i * k + j]); };
        for (i64 j = lane(); j < k; j += 32) inner += shares[i * k + j] * d(j);
        inner = warp_sum(inner);
        if (lane() == 0) dgroups[i] = narrow<U>(inner);
        for (i64 j = lane(); j < k; j += 32) dchosen[i * k + j] = shares[i * k + j] * (by * d(j) - by * inner);
    }
}

KERNEL hierarchical_to_logits(const U *dchosen, const i64 *ids, T *dlogits, i64 tokens, i64 experts, i64 choices) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        untake_row<A>(dlogits + t * experts, experts, choices, [&](i64 j) { return ids[t * choices + j]; },
                      [&](i64 j) { return (A)widen(dchosen[t * choices + j]); });
    }
}
