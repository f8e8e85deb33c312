// From the scores of a token's choices to its weights, and back.
#pragma once

enum { NONE, SUM, CLAMP, LP };                          // as in _renormalize.py

template <class V> struct Normaliser {
    i64 norm;
    V scale, p, length, total;
    bool follows;                                       // whether the total follows the scores

    __device__ V weight(V c) const { return c / total * scale; }

    // Of the total by one score; of a p-norm at 0 it is 0.
    __device__ V slope(V c) const {
        if (norm != LP) return follows ? (V)1 : (V)0;
        if (c == 0 || is_nan(c)) return 0;
        V share = pow((c < 0 ? -c : c) / length, p - 1);
        return c < 0 ? -share : share;
    }

    // The gradient of a score whose weight has gradient d; `through` is what the total passes on.
    __device__ V back(V d, V c, V through) const { return scale * ((d - (through == 0 ? (V)0 : through * slope(c))) / total); }
};

// By one warp; live(j): whether choice j is an expert, chosen(j): its score.  Without an expert the total is 1.
template <class V, class Live, class Chosen>
__device__ inline Normaliser<V> normaliser_of(i64 k, i64 norm, V eps, V scale, V p, Live live, Chosen chosen) {
    V sum = 0;
    int any = 0;
    for (i64 j = lane(); norm != NONE && j < k; j += 32) {
        if (!live(j)) continue;
        V c = chosen(j);
        sum += norm == LP ? pow(c < 0 ? -c : c, p) : c;
        any = 1;
    }
    sum = warp_sum(sum);
    any = warp_sum(any);
    Normaliser<V> found = {norm, scale, p, norm == LP ? pow(sum, 1 / p) : sum, 1, norm != NONE};
    if (norm == CLAMP) found.follows = sum >= eps;
    if (any) found.total = norm == CLAMP ? (found.follows ? sum : eps) : found.length + eps;
    return found;
}

// What the total passes on to every score; d(j): the gradient of weight j.
template <class V, class Live, class Chosen, class Gradient>
__device__ inline V through_total(const Normaliser<V> &n, i64 k, Live live, Chosen chosen, Gradient d) {
    V inner = 0;
    for (i64 j = lane(); n.follows && j < k; j += 32)
        if (live(j)) inner += d(j) * chosen(j);
    return warp_sum(inner) / n.total;
}
