// An operand of a product in memory, and what a tile needs of it.
#pragma once

// Rows of `columns` neighbours each; row o is at index[o] where there is an index (-1: zeros), and beyond the edges all is zero.
struct Panel {
    const T *base;
    const i64 *index;
    i64 stride, rows, columns, known;      // known: rows of base, which an index must stay below

    __device__ const T *row(i64 o) const {
        if (o >= rows) return nullptr;
        if (!index) return base + o * stride;
        i64 at = legal(index[o], known);
        return at < 0 ? nullptr : base + at * stride;
    }
};

__device__ inline Panel panel(const T *base, i64 rows, i64 columns) { return {base, nullptr, columns, rows, columns, rows}; }
__device__ inline Panel gathered(const T *base, const i64 *index, i64 rows, i64 columns, i64 known) {
    return {base, index, columns, rows, columns, known};
}
