#include "../columns.cuh"

KERNEL mix_in(const T *h, const U *previous, const U *scale, T *mixed, i64 size, i64 width) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        mixed[i] = narrow<T>((A)widen(h[i]) + (A)widen(previous[i]) * (A)widen(scale[i % width]));
}

KERNEL mix_in_backward(const U *scale, const T *dmixed, U *dprevious, i64 size, i64 width) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        dprevious[i] = narrow<U>((A)widen(dmixed[i]) * (A)widen(scale[i % width]));
}

KERNEL mix_in_to_scale(const U *previous, const T *dmixed, U *dscale, i64 tokens, i64 width) {
    column_sums<A>(tokens, width, [&](i64 t, i64 d) { return (A)widen(dmixed[t * width + d]) * (A)widen(previous[t * width + d]); },
                   [&](i64 d, A sum) { dscale[d] = narrow<U>(sum); });
}
