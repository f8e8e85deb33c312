#include "../columns.cuh"
#include "../losses/lse.cuh"

KERNEL scale_rows(const T *logits, const A *of_columns, A *of_rows, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A sum = lse_of<A>(experts, [&](i64 e) { return widen(logits[t * experts + e]) + of_columns[e]; });
        if (lane() == 0) of_rows[t] = -sum;
    }
}

// share: the logarithm of what a column is to sum to.  Blocks of whole columns.
KERNEL scale_columns(const T *logits, const A *of_rows, A share, A *of_columns, i64 tokens, i64 experts) {
    for (i64 first = (i64)blockIdx.x * 32; first < experts; first += (i64)gridDim.x * 32) {
        i64 e = first + lane(), rows = e < experts ? tokens : 0;
        auto entry = [&](i64 t) { return widen(logits[t * experts + e]) + of_rows[t]; };
        A top = column_max<A>(rows, entry);
        top = is_finite(top) ? top : (A)0;
        A total = column_sum<A>(rows, [&](i64 t) { return exp(entry(t) - top); });
        if (first_row() == 0 && e < experts) of_columns[e] = share - (log(total) + top);
    }
}

KERNEL scaled(const T *logits, const A *of_rows, const A *of_columns, T *plan, i64 entries, i64 experts) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        plan[i] = narrow<T>(exp(widen(logits[i]) + of_rows[i / experts] + of_columns[i % experts]));
    }
}
