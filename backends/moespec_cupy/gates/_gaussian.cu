#include "../columns.cuh"

// One warp a token and expert: log prior + half the sum of log precision - precision error^2.
KERNEL gaussian(const T *x, const T *means, const T *logs, const T *priors, A *logits, i64 tokens, i64 experts, i64 width) {
    for (i64 i = warp_index(); i < tokens * experts; i += warp_count()) {
        i64 e = i % experts;
        A log = 0, distance = 0;
        for (i64 d = lane(); d < width; d += 32) {
            A error = (A)widen(x[i / experts * width + d]) - (A)widen(means[e * width + d]), own = widen(logs[e * width + d]);
            log += own;
            distance += exp(own) * (error * error);
        }
        log = warp_sum(log);
        distance = warp_sum(distance);
        if (lane() == 0) logits[i] = (A)widen(priors[e]) + (A)0.5 * log - (A)0.5 * distance;
    }
}

KERNEL gaussian_to_tokens(const T *x, const T *means, const T *logs, const A *dlogits, T *dx, i64 tokens, i64 experts, i64 width) {
    for (i64 i = thread_index(); i < tokens * width; i += thread_count()) {
        i64 t = i / width, d = i % width;
        A sum = 0;
        for (i64 e = 0; e < experts; e++)
            sum += dlogits[t * experts + e] * (exp((A)widen(logs[e * width + d])) * ((A)widen(x[i]) - (A)widen(means[e * width + d])));
        dx[i] = narrow<T>(-sum);
    }
}

// One column an expert and feature.
KERNEL gaussian_to_experts(const T *x, const T *means, const T *logs, const A *dlogits, T *dmeans, T *dlogs,
                           i64 tokens, i64 experts, i64 width) {
    auto error = [&](i64 t, i64 j) { return (A)widen(x[t * width + j % width]) - (A)widen(means[j]); };
    auto pull = [&](i64 t, i64 j) { return exp((A)widen(logs[j])) * error(t, j); };
    column_sums<A>(tokens, experts * width, [&](i64 t, i64 j) { return dlogits[t * experts + j / width] * pull(t, j); },
                   [&](i64 j, A sum) { dmeans[j] = narrow<T>(sum); });
    column_sums<A>(tokens, experts * width, [&](i64 t, i64 j) { return dlogits[t * experts + j / width] * ((A)1 - pull(t, j) * error(t, j)); },
                   [&](i64 j, A sum) { dlogs[j] = narrow<T>((A)0.5 * sum); });
}

KERNEL gaussian_to_priors(const A *dlogits, T *dpriors, i64 tokens, i64 experts) {
    column_sums<A>(tokens, experts, [&](i64 t, i64 e) { return dlogits[t * experts + e]; }, [&](i64 e, A sum) { dpriors[e] = narrow<T>(sum); });
}
