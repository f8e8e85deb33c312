// Which tile a block does: rows are sorted by expert, a tile has rows of one expert only, and only the device knows how many each has.
#pragma once
#include "panel.cuh"
#if LOW_PRECISION
#include "tensor.cuh"
#else
#include "simt.cuh"
#endif

constexpr int BLOCKS = sizeof(A) == 8 ? 1 : 2;      // of a multiprocessor: as many as leave a thread the registers for one tile

#undef KERNEL                    // smaller blocks, so that a thread may have more registers
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)

constexpr i64 BAND = 8;          // tiles one below the other that run at the same time: they read the same columns of the weights

struct Rows {
    i64 expert, first, stop;     // expert E: dead rows
};

// Slot offsets[e] / TILE_M + e is the first of expert e: never fewer slots than tiles, and no table of them.
__device__ inline Rows rows_of(i64 slot, const i64 *offsets, i64 experts, i64 rows) {
    i64 low = 0, high = experts;
    while (low < high) {
        i64 middle = (low + high + 1) / 2;
        if (offsets[middle] / TILE_M + middle <= slot) low = middle;
        else high = middle - 1;
    }
    i64 begin = offsets[low], end = low < experts ? offsets[low + 1] : rows;
    i64 first = begin + (slot - begin / TILE_M - low) * TILE_M, stop = first + TILE_M;
    end = end < rows ? end : rows;
    return {low, first, stop < end ? stop : end};
}

// work(rows, first column) for the tile of this block, one of [rows, columns].  No loop over tiles: what it would find not to change
// it would keep in registers, and tiles need them all.
template <class Work> __device__ inline void own_tile(const i64 *offsets, i64 experts, i64 rows, i64 columns, Work work) {
    i64 slots = rows / TILE_M + experts + 1, across = (columns + TILE_N - 1) / TILE_N;
    i64 band = blockIdx.x / (BAND * across), within = blockIdx.x % (BAND * across);
    i64 high = slots - band * BAND < BAND ? slots - band * BAND : BAND;
    Rows mine = rows_of(band * BAND + within % high, offsets, experts, rows);
    if (mine.first < mine.stop) work(mine, within / high * TILE_N);
}
