#include "grouped.cuh"

// out[n] = x[n] w[e] + b[e]; with an index row n of x is x[index[n]].  Dead rows are 0.
KERNEL grouped_nn(const T *x, const i64 *index, const T *w, const T *b, const i64 *offsets, T *out,
                  i64 rows, i64 known, i64 depth, i64 width, i64 experts) {
    own_tile(offsets, experts, rows, width, [&](Rows r, i64 column) {
        Tile sum;
        bool live = r.expert < experts;
        if (live) sum.add<false, true>(gathered(index ? x : x + r.first * depth, index ? index + r.first : index, r.stop - r.first, depth, known), 0,
                                       panel(w + r.expert * depth * width, depth, width), column, depth);
        sum.each([&](int m, int n, A value) {
            i64 row = r.first + m, f = column + n;
            if (row >= r.stop || f >= width) return;
            if (b && live) value += (A)widen(b[r.expert * width + f]);
            out[row * width + f] = narrow<T>(value);
        });
    });
}

// dx[n] = dy[n] w[e]^T, plus the same of a second pair where there is one.  Dead rows are 0.
KERNEL grouped_nt(const T *dy, const T *w, const T *dy2, const T *w2, const i64 *offsets, T *dx, i64 rows, i64 depth, i64 width, i64 experts) {
    own_tile(offsets, experts, rows, width, [&](Rows r, i64 column) {
        Tile sum;
        int pairs = r.expert == experts ? 0 : dy2 ? 2 : 1;
#pragma unroll 1
        for (int pair = 0; pair < pairs; pair++)
            sum.add<false, false>(panel((pair ? dy2 : dy) + r.first * depth, r.stop - r.first, depth), 0,
                                  panel((pair ? w2 : w) + r.expert * depth * width, width, depth), column, depth);
        sum.each([&](int m, int n, A value) {
            i64 row = r.first + m, d = column + n;
            if (row < r.stop && d < width) dx[row * width + d] = narrow<T>(value);
        });
    });
}

// dw[e] = the sum of x[n]^T dy[n] over the rows of e, in ascending order; with an index row n of x is x[index[n]].
KERNEL grouped_tn(const T *x, const i64 *index, const T *dy, const i64 *offsets, T *dw, i64 rows, i64 known, i64 height, i64 width, i64 experts) {
    i64 down = (height + TILE_M - 1) / TILE_M, across = (width + TILE_N - 1) / TILE_N;
    i64 e = blockIdx.x / (down * across), row = blockIdx.x % down * TILE_M, column = blockIdx.x / down % across * TILE_N;
    i64 first = offsets[e], stop = offsets[e + 1] < rows ? offsets[e + 1] : rows, count = stop > first ? stop - first : 0;
    Tile sum;
    sum.add<true, true>(gathered(index ? x : x + first * height, index ? index + first : index, count, height, known), row,
                        panel(dy + first * width, count, width), column, count);
    sum.each([&](int m, int n, A value) {
        if (row + m < height && column + n < width) dw[(e * height + row + m) * width + column + n] = narrow<T>(value);
    });
}

// db[e] = the sum of dy[n] over the rows of e, in ascending order.
KERNEL grouped_sums(const T *dy, const i64 *offsets, T *db, i64 rows, i64 width, i64 experts) {
    for (i64 i = thread_index(); i < experts * width; i += thread_count()) {
        i64 e = i / width, stop = offsets[e + 1] < rows ? offsets[e + 1] : rows;
        A sum = 0;
        for (i64 n = offsets[e]; n < stop; n++) sum += (A)widen(dy[n * width + i % width]);
        db[i] = narrow<T>(sum);
    }
}
