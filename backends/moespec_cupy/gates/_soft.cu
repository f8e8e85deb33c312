#include "../columns.cuh"
#include "members.cuh"
#include "softmax.cuh"

// Of one column of logits over the members of a group; a NaN reaches the sum.
template <class Entry> __device__ inline Softmax<A> softmax_down(i64 count, Entry entry) {
    A top = column_max<A>(count, entry);
    return {top, column_sum<A>(count, [&](i64 i) { return exp(entry(i) - top); })};
}

// Blocks take a group and 32 slots.
KERNEL over_tokens(const T *logits, const i64 *order, const i64 *starts, i64 groups, T *dispatch, i64 tokens, i64 slots) {
    i64 tiles = (slots + 31) / 32;
    for (i64 b = blockIdx.x; b < groups * tiles; b += gridDim.x) {
        Members own = members_of(order, starts, b / tiles, tokens);
        i64 s = b % tiles * 32 + lane(), count = s < slots ? own.count : 0;
        if (own.count == 0) continue;                        // the same in all threads
        Softmax<A> column = softmax_down(count, [&](i64 i) { return (A)widen(logits[own.token(i) * slots + s]); });
        for (i64 i = first_row(); i < count; i += row_step()) {
            i64 at = own.token(i) * slots + s;
            dispatch[at] = narrow<T>(column.at(widen(logits[at])));
        }
    }
}

// What comes through the softmax over the slots, not rounded.
KERNEL over_slots_backward(const T *logits, const T *dcombine, A *through, i64 tokens, i64 slots) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        i64 first = t * slots;
        auto d = [&](i64 s) { return dcombine ? widen(dcombine[first + s]) : (A)0; };
        Softmax<A> row = softmax_of<A>(slots, [&](i64 s) { return (A)widen(logits[first + s]); });
        A inner = 0;
        for (i64 s = lane(); s < slots; s += 32) inner += row.at(widen(logits[first + s])) * d(s);
        inner = warp_sum(inner);
        for (i64 s = lane(); s < slots; s += 32) through[first + s] = row.at(widen(logits[first + s])) * (d(s) - inner);
    }
}

KERNEL over_tokens_backward(const T *logits, const T *ddispatch, const A *through, const i64 *order, const i64 *starts, i64 groups, T *dlogits,
                            i64 tokens, i64 slots) {
    i64 tiles = (slots + 31) / 32;
    for (i64 b = blockIdx.x; b < groups * tiles; b += gridDim.x) {
        Members own = members_of(order, starts, b / tiles, tokens);
        i64 s = b % tiles * 32 + lane(), count = s < slots ? own.count : 0;
        if (own.count == 0) continue;
        auto x = [&](i64 i) { return (A)widen(logits[own.token(i) * slots + s]); };
        auto d = [&](i64 i) { return ddispatch ? widen(ddispatch[own.token(i) * slots + s]) : (A)0; };
        Softmax<A> column = softmax_down(count, x);
        A inner = column_sum<A>(count, [&](i64 i) { return column.at(x(i)) * d(i); });
        for (i64 i = first_row(); i < count; i += row_step()) {
            i64 at = own.token(i) * slots + s;
            dlogits[at] = narrow<T>(column.at(x(i)) * (d(i) - inner) + through[at]);
        }
    }
}
