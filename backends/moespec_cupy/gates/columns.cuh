// Sums over tokens, in a fixed order: a block takes 32 columns at a time, its 32 warps take the tokens in turn.
#pragma once

// value(t, d): what is summed; store(d, sum).
template <class V, class Value, class Store> __device__ inline void column_sums(i64 tokens, i64 width, Value value, Store store) {
    __shared__ V part[32][32];
    i64 warp = threadIdx.x / 32;
    for (i64 first = (i64)blockIdx.x * 32; first < width; first += (i64)gridDim.x * 32) {
        i64 d = first + lane();
        V sum = 0;
        for (i64 t = warp; d < width && t < tokens; t += 32) sum += value(t, d);
        part[warp][lane()] = sum;
        __syncthreads();
        if (warp == 0 && d < width) {
            V total = 0;
            for (int w = 0; w < 32; w++) total += part[w][lane()];
            store(d, total);
        }
        __syncthreads();
    }
}
