// The softmax of one row, by one warp.  NaN and +inf spread over the row, as IEEE arithmetic has it.
#pragma once

template <class V> struct Softmax {
    V top, total;
    __device__ V at(V x) const { return exp(x - top) / total; }
};

// score(e): what expert e has.
template <class V, class Score> __device__ inline Softmax<V> softmax_of(i64 experts, Score score) {
    V top = -infinity<V>(), total = 0;
    for (i64 e = lane(); e < experts; e += 32) {
        V x = score(e);
        top = x > top ? x : top;
    }
    top = warp_max(top);
    for (i64 e = lane(); e < experts; e += 32) total += exp(score(e) - top);
    return {top, warp_sum(total)};
}
