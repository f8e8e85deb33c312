// Reductions down columns: a block takes 32 columns next to each other, one a lane, and its warps share the rows.
// All threads of the block must call; the result is that of the thread's own column, in a fixed order.
#pragma once

__device__ inline i64 first_row() { return threadIdx.x / 32; }
__device__ inline i64 row_step() { return blockDim.x / 32; }

// value(i): what row i has in this thread's column.
template <class V, class Value> __device__ inline V column_sum(i64 rows, Value value) {
    __shared__ V part[32][32];
    V sum = 0;
    for (i64 i = first_row(); i < rows; i += row_step()) sum += value(i);
    __syncthreads();                              // nobody still reads the sums of a call before
    part[threadIdx.x / 32][lane()] = sum;
    __syncthreads();
    V total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) total += part[w][lane()];
    return total;
}

// store(d, sum) for every column d of a matrix, with the sum of value(i, d) over the rows i.
template <class V, class Value, class Store> __device__ inline void column_sums(i64 rows, i64 width, Value value, Store store) {
    for (i64 first = (i64)blockIdx.x * 32; first < width; first += (i64)gridDim.x * 32) {
        i64 d = first + lane();
        V sum = column_sum<V>(d < width ? rows : 0, [&](i64 i) { return value(i, d); });
        if (first_row() == 0 && d < width) store(d, sum);
    }
}

// The largest number, -inf if there is none.
template <class V, class Value> __device__ inline V column_max(i64 rows, Value value) {
    __shared__ V part[32][32];
    V top = -infinity<V>();
    for (i64 i = first_row(); i < rows; i += row_step()) {
        V x = value(i);
        top = x > top ? x : top;
    }
    __syncthreads();
    part[threadIdx.x / 32][lane()] = top;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; w++) top = part[w][lane()] > top ? part[w][lane()] : top;
    return top;
}
