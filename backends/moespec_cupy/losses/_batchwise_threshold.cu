// Entries (t, e) by descending score, so that after sorting them by expert each column stands in its order.
KERNEL column_of(i64 *column, i64 n, i64 experts) {
    for (i64 i = thread_index(); i < n; i += thread_count()) column[i] = i % experts;
}

// Mask of the threshold minus mask of the batch, which has the first `chosen` of every column; order [experts, tokens].
KERNEL threshold_terms(const T *probs, const T *thresholds, const i64 *order, A *difference, A *terms, i64 tokens, i64 experts, i64 chosen) {
    for (i64 at = thread_index(); at < tokens * experts; at += thread_count()) {
        i64 i = order[at];
        A x = (A)widen(probs[i]), limit = (A)widen(thresholds[i % experts]);
        A d = (x > limit ? (A)1 : (A)0) - (at % tokens < chosen ? (A)1 : (A)0);
        difference[i] = d;
        terms[i] = d * (x - limit);
    }
}

KERNEL thresholds_backward(const A *sums, const A *dloss, A *dthresholds, i64 experts) {
    for (i64 e = thread_index(); e < experts; e += thread_count()) dthresholds[e] = -sums[e] * *dloss;
}
