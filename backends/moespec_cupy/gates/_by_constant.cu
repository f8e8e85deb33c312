KERNEL softcap(const T *logits, T *capped, i64 size, A cap) {
    for (i64 i = thread_index(); i < size; i += thread_count()) capped[i] = narrow<T>(cap * tanh(widen(logits[i]) / cap));
}

KERNEL softcap_backward(const T *logits, const T *dcapped, T *dlogits, i64 size, A cap) {
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        A t = tanh(widen(logits[i]) / cap);
        dlogits[i] = narrow<T>((1 - t * t) * widen(dcapped[i]));
    }
}

KERNEL rescale(const T *logits, T *scaled, i64 size, A factor) {
    for (i64 i = thread_index(); i < size; i += thread_count()) scaled[i] = narrow<T>(widen(logits[i]) * factor);
}
