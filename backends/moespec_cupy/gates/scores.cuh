// The scores of logits: a softmax of the row, or each on its own.
#pragma once
#include "softmax.cuh"

enum { SOFTMAX, SIGMOID, SQRT_SOFTPLUS };               // as in _scores.py

// With full relative accuracy in both tails.
template <class V> __device__ inline V sigmoid_of(V x) {
    V tail = exp(x < 0 ? x : -x);
    return (x < 0 ? tail : (V)1) / (1 + tail);
}

template <class V> __device__ inline V softplus_of(V x) { return (x > 0 ? x : (V)0) + log1p(exp(x < 0 ? x : -x)); }

// Of a score that is no softmax.
template <class V> __device__ inline V score_of(i64 kind, V x) { return kind == SIGMOID ? sigmoid_of(x) : sqrt(softplus_of(x)); }

// Its derivative; 0 where the root of a softplus has underflowed.
template <class V> __device__ inline V score_slope(i64 kind, V x) {
    V s = score_of(kind, x);
    if (kind == SIGMOID) return s * (1 - s);
    return s == 0 ? (V)0 : sigmoid_of(x) / (2 * s);
}

template <class V> struct Scores {
    i64 kind;
    Softmax<V> row;
    __device__ V at(V x) const { return kind == SOFTMAX ? row.at(x) : score_of(kind, x); }
};

// Of one row, by one warp.
template <class V, class Logit> __device__ inline Scores<V> scores_of(i64 kind, i64 size, Logit logit) {
    Scores<V> found = {kind, {0, 1}};
    if (kind == SOFTMAX) found.row = softmax_of<V>(size, logit);
    return found;
}
