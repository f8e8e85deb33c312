#include "scores.cuh"

KERNEL noisy_logits(const T *clean, const U *raw, const U *noise, T *logits, T *sigma, i64 size, A least) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        A s = softplus_of((A)widen(raw[i])) + least;
        sigma[i] = narrow<T>(s);
        logits[i] = narrow<T>((A)widen(clean[i]) + (A)widen(noise[i]) * s);
    }
}

KERNEL noisy_logits_backward(const U *raw, const U *noise, const T *dlogits, const T *dsigma, U *draw, i64 size) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        A scale = dlogits ? (A)widen(noise[i]) * (A)widen(dlogits[i]) : (A)0;
        if (dsigma) scale = (A)widen(dsigma[i]) + scale;
        draw[i] = narrow<U>(scale * sigmoid_of((A)widen(raw[i])));
    }
}
