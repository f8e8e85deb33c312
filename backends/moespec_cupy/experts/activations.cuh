// The activations and their derivatives, by number; of NaN NaN, of an infinity what IEEE arithmetic makes of the formula.
#pragma once

enum { IDENTITY, RELU, RELU2, SILU, GELU, GELU_TANH };

template <class V> __device__ inline V logistic(V x) { return 1 / (1 + exp(-x)); }
template <class V> __device__ inline V normal_cdf(V x) { return (V)0.5 * (1 + erf(x * (V)0.7071067811865476)); }
template <class V> __device__ inline V gelu_tanh_of(V x) { return tanh((V)0.7978845608028654 * (x + (V)0.044715 * (x * x * x))); }

template <class V> __device__ inline V activation(i64 kind, V x) {
    switch (kind) {
        case RELU: return x <= 0 ? (V)0 : x;
        case RELU2: return x <= 0 ? (V)0 : x * x;
        case SILU: return x * logistic(x);
        case GELU: return x * normal_cdf(x);
        case GELU_TANH: return (V)0.5 * x * (1 + gelu_tanh_of(x));
        default: return x;
    }
}

// At a kink 0.
template <class V> __device__ inline V activation_slope(i64 kind, V x) {
    switch (kind) {
        case RELU: return x > 0 ? (V)1 : (V)0;
        case RELU2: return x <= 0 ? (V)0 : x + x;
        case SILU: {
            V s = logistic(x);
            return s * (1 + x * (1 - s));
        }
        case GELU: return normal_cdf(x) + x * ((V)0.3989422804014327 * exp((V)-0.5 * (x * x)));
        case GELU_TANH: {
            V t = gelu_tanh_of(x);
            return (V)0.5 * (1 + t) + (V)0.5 * x * (1 - t * t) * ((V)0.7978845608028654 * (1 + (V)(3 * 0.044715) * (x * x)));
        }
        default: return 1;
    }
}
