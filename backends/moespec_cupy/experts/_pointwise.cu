#include "activations.cuh"

KERNEL activate(const T *x, T *y, i64 size, i64 kind) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<T>(activation<A>(kind, widen(x[i])));
}

KERNEL activate_backward(const T *x, const T *dy, T *dx, i64 size, i64 kind) {
    for (i64 i = thread_index(); i < size; i += thread_count())
        dx[i] = narrow<T>(activation_slope<A>(kind, widen(x[i])) * (A)widen(dy[i]));
}
