// log(sum(exp(x))) of one row, by one warp: -inf where every entry is; a NaN anywhere is the result.
#pragma once

template <class V, class Score> __device__ inline V lse_of(i64 experts, Score score) {
    V top = -infinity<V>(), total = 0;
    for (i64 e = lane(); e < experts; e += 32) {
        V x = score(e);
        top = x > top ? x : top;
    }
    top = warp_max(top);
    top = is_finite(top) ? top : (V)0;
    for (i64 e = lane(); e < experts; e += 32) total += exp(score(e) - top);
    return log(warp_sum(total)) + top;
}
