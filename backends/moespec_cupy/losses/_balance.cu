// A constant per expert times its mean probability.

// counts [experts], 0 before: the first `counted` choices of valid tokens.  With the experts of a device together a token counts once for
// each device, at the device's first expert.
KERNEL count_choices(const i64 *ids, const bool *mask, i64 *counts, i64 tokens, i64 choices, i64 counted, i64 experts, i64 together) {
    for (i64 i = thread_index(); i < tokens * counted; i += thread_count()) {
        i64 t = i / counted, j = i % counted, e = legal(ids[t * choices + j], experts);
        if (e < 0 || (mask && !mask[t])) continue;
        bool first = true;
        for (i64 before = 0; together && before < j; before++) {
            i64 other = legal(ids[t * choices + before], experts);
            if (other >= 0 && other / together == e / together) first = false;
        }
        if (first) count_up(counts + (together ? e / together * together : e));
    }
}

// share = 1 / |V|.  coefficient [experts] = scale * (counts of the expert's device) / (|V| per_token), and the same times tau from `ffn` on;
// per_token = 0: divided by the sum of the counts.  One block.
KERNEL coefficients(const i64 *counts, const bool *mask, A *coefficient, A *share, i64 tokens, i64 experts, i64 together, i64 ffn,
                    f64 scale, f64 tau, i64 per_token) {
    i64 valid = 0, all = 0;
    for (i64 t = threadIdx.x; t < tokens; t += blockDim.x) valid += !mask || mask[t];
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) all += counts[e];
    valid = block_sum(valid);
    all = block_sum(all);
    i64 whole = per_token ? valid * per_token : all;
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) {
        i64 own = 0;
        for (i64 i = e / together * together, end = i + together; i < end; i++) own += counts[i];
        coefficient[e] = narrow<A>(scale * own / (whole > 1 ? whole : 1) * (e < ffn ? 1.0 : tau));
    }
    if (threadIdx.x == 0) *share = narrow<A>(1.0 / (valid > 1 ? valid : 1));
}

// One block.
KERNEL weigh_sums(const A *coefficient, const A *share, const f64 *sums, A *loss, i64 experts) {
    f64 sum = 0;
    for (i64 e = threadIdx.x; e < experts; e += blockDim.x) sum += coefficient[e] * (*share * sums[e]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = narrow<A>(sum);
}

KERNEL weigh_means_backward(const A *coefficient, const A *share, const bool *mask, const A *dloss, T *dprobs, i64 tokens, i64 experts) {
    for (i64 i = thread_index(); i < tokens * experts; i += thread_count()) {
        bool counts = !mask || mask[i / experts];
        dprobs[i] = narrow<T>(counts ? *dloss * coefficient[i % experts] * *share : (A)0);
    }
}
