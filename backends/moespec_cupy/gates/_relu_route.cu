// Of the order's key: a comparison of numbers would flush subnormals.  A NaN is on.
template <class V> __device__ inline bool passes(V logit) { return order_key(logit) > 0; }

KERNEL relu_route(const T *logits, const i64 *given, i64 *ids, T *weights, i64 entries, i64 experts) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        bool on = passes(logits[i]), taken = given ? given[i] >= 0 : on;
        ids[i] = taken ? i % experts : -1;
        weights[i] = on && taken ? logits[i] : narrow<T>((A)0);
    }
}

KERNEL relu_route_backward(const T *logits, const i64 *given, const T *dweights, T *dlogits, i64 entries) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        dlogits[i] = passes(logits[i]) && (!given || given[i] >= 0) ? dweights[i] : narrow<T>((A)0);
    }
}
