#include "columns.cuh"

KERNEL sum_columns(const T *x, U *sums, i64 tokens, i64 width) {
    column_sums<A>(tokens, width, [&](i64 t, i64 d) { return (A)widen(x[t * width + d]); }, [&](i64 d, A sum) { sums[d] = narrow<U>(sum); });
}

// Of the products of two arrays.
KERNEL sum_products(const T *x, const U *y, U *sums, i64 tokens, i64 width) {
    column_sums<A>(tokens, width, [&](i64 t, i64 d) { return (A)widen(x[t * width + d]) * (A)widen(y[t * width + d]); },
                   [&](i64 d, A sum) { sums[d] = narrow<U>(sum); });
}
