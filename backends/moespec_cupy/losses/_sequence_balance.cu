// The balance of every sequence.  Sequences are numbered from 0; without numbers all tokens are one.

__device__ inline i64 sequence_of(const i64 *number, const bool *mask, i64 t) { return mask && !mask[t] ? -1 : number ? number[t] : 0; }

// number [tokens], -1 before: the group of token order[at], numbered from 0 in ascending order.  One block.
KERNEL number_groups(const i64 *group, const i64 *order, i64 *number, i64 tokens) {
    i64 done = 0;
    for (i64 first = 0; first < tokens; first += blockDim.x) {
        i64 at = first + threadIdx.x, sum;
        i64 t = at < tokens ? order[at] : -1;
        i64 begins = t >= 0 && (at == 0 || group[order[at - 1]] != group[t]);
        i64 earlier = block_before(begins, sum);
        if (t >= 0) number[t] = done + earlier + begins - 1;
        done += sum;
    }
}

// counts [sequences, experts] and sizes [sequences], 0 before: of valid tokens.
KERNEL count_sequences(const i64 *ids, const i64 *number, const bool *mask, i64 *counts, i64 *sizes, i64 tokens, i64 choices, i64 experts) {
    for (i64 t = thread_index(); t < tokens; t += thread_count()) {
        i64 g = sequence_of(number, mask, t);
        if (g < 0) continue;
        count_up(sizes + g);
        for (i64 i = t * choices; i < (t + 1) * choices; i++) {
            i64 e = legal(ids[i], experts);
            if (e >= 0) count_up(counts + g * experts + e);
        }
    }
}

// How many sequences have a valid token.  One block.
KERNEL count_live(const i64 *sizes, i64 *live, i64 sequences) {
    i64 found = 0;
    for (i64 g = threadIdx.x; g < sequences; g += blockDim.x) found += sizes[g] > 0;
    found = block_sum(found);
    if (threadIdx.x == 0) *live = found;
}

// What a token's probabilities count.
struct Weights {
    const i64 *counts;
    f64 each;

    __device__ A of(i64 e) const { return counts ? narrow<A>(each * counts[e]) : (A)0; }
};

__device__ inline Weights weights_of(const i64 *number, const bool *mask, const i64 *counts, const i64 *sizes, const i64 *live,
                                     i64 t, i64 experts, i64 per_token) {
    i64 g = sequence_of(number, mask, t);
    if (g < 0) return {0, 0};
    return {counts + g * experts, experts / ((f64)sizes[g] * sizes[g] * per_token * *live)};
}

// What a token's scores are divided by.
__device__ inline A total_of(const T *scores, i64 experts, bool normalize) {
    A sum = 0;
    for (i64 e = lane(); e < experts; e += 32) sum += widen(scores[e]);
    sum = warp_sum(sum);
    return normalize ? sum : (A)1;
}

KERNEL sequence_terms(const T *scores, const i64 *number, const bool *mask, const i64 *counts, const i64 *sizes, const i64 *live, A *terms,
                      i64 tokens, i64 experts, i64 per_token, bool normalize) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *s = scores + t * experts;
        Weights weights = weights_of(number, mask, counts, sizes, live, t, experts, per_token);
        A total = total_of(s, experts, normalize), sum = 0;
        for (i64 e = lane(); e < experts; e += 32) {
            A w = weights.of(e);
            if (w != 0 && total != 0) sum += w * (widen(s[e]) / total);
        }
        sum = warp_sum(sum);
        if (lane() == 0) terms[t] = sum;
    }
}

// A weight of 0 hides its score; a token without weights gets 0.
KERNEL sequence_backward(const T *scores, const i64 *number, const bool *mask, const i64 *counts, const i64 *sizes, const i64 *live,
                         const A *dloss, T *dscores, i64 tokens, i64 experts, i64 per_token, bool normalize) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *s = scores + t * experts;
        Weights weights = weights_of(number, mask, counts, sizes, live, t, experts, per_token);
        A total = total_of(s, experts, normalize), inner = 0;
        i64 some = 0;
        for (i64 e = lane(); e < experts; e += 32) {
            A w = weights.of(e), d = w * *dloss;
            some += w != 0;
            if (d != 0 && total != 0) inner += d * (widen(s[e]) / total);
        }
        inner = warp_sum(inner);
        some = warp_sum(some);
        for (i64 e = lane(); e < experts; e += 32) {
            A d = weights.of(e) * *dloss;
            if (normalize) d = some && total != 0 ? (d - inner) / total : (A)0;
            dscores[t * experts + e] = narrow<T>(d);
        }
    }
}
