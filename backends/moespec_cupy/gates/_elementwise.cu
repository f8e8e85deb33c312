// What is done to every number on its own.

KERNEL cast(const T *a, U *y, i64 size) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<U>(widen(a[i]));
}

KERNEL multiply(const T *a, const U *b, T *y, i64 size) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<T>((A)widen(a[i]) * (A)widen(b[i]));
}

KERNEL add_scaled(const T *a, const U *b, T *y, i64 size, A scale) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<T>((A)widen(a[i]) + scale * (A)widen(b[i]));
}

// b is one row, or one number.
KERNEL add_row(const T *a, const U *b, T *y, i64 size, i64 width) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<T>((A)widen(a[i]) + (A)widen(b[i % width]));
}

KERNEL multiply_row(const T *a, const U *b, T *y, i64 size, i64 width) {
    for (i64 i = thread_index(); i < size; i += thread_count()) y[i] = narrow<T>((A)widen(a[i]) * (A)widen(b[i % width]));
}
