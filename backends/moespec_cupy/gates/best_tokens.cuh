// The best of many by one block: every key above the m-th, and of those equal to it the earliest.
#pragma once

template <class V> struct Keys;                                     // how far keys of numbers reach; NaN is put one above
template <> struct Keys<f32> { static constexpr i64 most = 0x7f800001LL; };
template <> struct Keys<f64> { static constexpr i64 most = 0x7ff0000000000001LL; };

// score(i), a V, of each of n; mark(i, whether it is among the m first of the normative order) is called once for each.
template <class V, class Score, class Mark> __device__ inline void mark_best(i64 n, i64 m, Score score, Mark mark) {
    auto key = [&](i64 i) {
        i64 found = order_key(score(i));
        return found < Keys<V>::most ? found : Keys<V>::most;
    };
    auto count = [&](i64 least) {
        i64 found = 0;
        for (i64 i = threadIdx.x; i < n; i += blockDim.x) found += key(i) >= least;
        return block_sum(found);
    };
    i64 low = -Keys<V>::most, high = Keys<V>::most;                 // the m-th key is the highest that m keys reach
    while (low < high) {
        i64 middle = low + (i64)(((unsigned long long)high - (unsigned long long)low + 1) / 2);
        if (count(middle) >= m) low = middle;
        else high = middle - 1;
    }
    i64 room = m - count(low + 1);
    for (i64 first = 0, ties = 0; first < n; first += blockDim.x) {
        i64 i = first + threadIdx.x, mine = i < n ? key(i) : -TOP_KEY, more;
        bool tie = i < n && mine == low;
        i64 rank = ties + block_before(tie, more);
        if (i < n) mark(i, mine > low || (tie && rank < room));
        ties += more;
    }
}
