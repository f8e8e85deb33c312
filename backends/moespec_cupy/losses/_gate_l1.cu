// What every assignment's weight counts, and its term of the loss: what counts nothing hides its weight.  Without `f` all experts count 1.
KERNEL gate_terms(const i64 *ids, const T *weights, const bool *mask, const f64 *f, const f64 *share, A *weigh, A *terms,
                  i64 entries, i64 choices, i64 experts) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        i64 e = legal(ids[i], experts);
        A own = narrow<A>(e >= 0 && (!mask || mask[i / choices]) ? (f ? f[e] : 1.0) * *share : 0.0);
        weigh[i] = own;
        terms[i] = own != 0 ? own * (A)widen(weights[i]) : (A)0;
    }
}

KERNEL gate_terms_backward(const A *weigh, const A *dloss, T *dweights, i64 entries) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) dweights[i] = narrow<T>(*dloss * weigh[i]);
}
