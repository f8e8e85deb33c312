// What every kernel text begins with: types, conversions, the normative order, warps, reductions in a fixed order.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// The host reads the parameters of kernels that are declared like this; 512 as in _kernel.py.
#define KERNEL extern "C" __global__ void __launch_bounds__(512, 1)

typedef long long i64;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;
typedef __half f16;
typedef __nv_bfloat16 bf16;

// ---- types: what is stored, what is computed in -----------------------------------------------------------------------

template <class S> struct accumulation { typedef f32 type; };
template <> struct accumulation<f64> { typedef f64 type; };
template <class X, class Y> struct wider { typedef f32 type; };
template <> struct wider<f64, f32> { typedef f64 type; };
template <> struct wider<f32, f64> { typedef f64 type; };
template <> struct wider<f64, f64> { typedef f64 type; };

__device__ inline f32 widen(f32 x) { return x; }
__device__ inline f64 widen(f64 x) { return x; }
__device__ inline f32 widen(f16 x) { return __half2float(x); }
__device__ inline f32 widen(bf16 x) { return __bfloat162float(x); }

// To the nearest, once: narrow<T>(value).
template <class S> struct narrowing;
template <> struct narrowing<f32> { template <class V> __device__ static f32 of(V x) { return (f32)x; } };
template <> struct narrowing<f64> { template <class V> __device__ static f64 of(V x) { return (f64)x; } };
template <> struct narrowing<f16> {
    __device__ static f16 of(f32 x) { return __float2half_rn(x); }
    __device__ static f16 of(f64 x) { return __double2half(x); }
};
template <> struct narrowing<bf16> {
    __device__ static bf16 of(f32 x) { return __float2bfloat16_rn(x); }
    __device__ static bf16 of(f64 x) { return __double2bfloat16(x); }
};
template <class S, class V> __device__ inline S narrow(V x) { return narrowing<S>::of(x); }

template <class V> __device__ V infinity();
template <> __device__ inline f32 infinity<f32>() { return __int_as_float(0x7f800000); }
template <> __device__ inline f64 infinity<f64>() { return __longlong_as_double(0x7ff0000000000000LL); }
template <class V> __device__ V not_a_number();
template <> __device__ inline f32 not_a_number<f32>() { return __int_as_float(0x7fc00000); }
template <> __device__ inline f64 not_a_number<f64>() { return __longlong_as_double(0x7ff8000000000000LL); }

template <class V> __device__ inline bool is_nan(V x) { return x != x; }
template <class V> __device__ inline bool is_finite(V x) { return x - x == 0; }

// An index into 0 .. size-1, or -1: what is out of range is nobody.
__device__ inline i64 legal(i64 id, i64 size) { return id >= 0 && id < size ? id : -1; }

// ---- the normative order: NaN above every number, -0.0 equal to +0.0 --------------------------------------------------
// Of the bits: a comparison of numbers would flush subnormals.

constexpr i64 TOP_KEY = 0x7fffffffffffffffLL;

__device__ inline i64 order_key(f32 x) {
    int bits = __float_as_int(x), size = bits & 0x7fffffff;
    if (size > 0x7f800000) return TOP_KEY;
    return bits < 0 ? -(i64)size : (i64)size;
}

__device__ inline i64 order_key(f64 x) {
    i64 bits = __double_as_longlong(x), size = bits & TOP_KEY;
    if (size > 0x7ff0000000000000LL) return TOP_KEY;
    return bits < 0 ? -size : size;
}

__device__ inline i64 order_key(f16 x) { return order_key(widen(x)); }
__device__ inline i64 order_key(bf16 x) { return order_key(widen(x)); }

// A candidate of a selection; nobody has index -1 and is after everybody.
struct Candidate {
    i64 key, index;
};

__device__ inline bool before(Candidate a, Candidate b) {
    if (a.index < 0 || b.index < 0) return b.index < 0 && a.index >= 0;
    return a.key > b.key || (a.key == b.key && a.index < b.index);
}

// ---- who am I ---------------------------------------------------------------------------------------------------------
// Every kernel strides: the grid may be smaller than the work.

__device__ inline i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline i64 thread_count() { return (i64)gridDim.x * blockDim.x; }
__device__ inline i64 warp_index() { return thread_index() / 32; }
__device__ inline i64 warp_count() { return thread_count() / 32; }
__device__ inline int lane() { return threadIdx.x % 32; }

// ---- reductions: the same order every time, the result in every thread ------------------------------------------------

template <class V> __device__ inline V warp_sum(V x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// The largest number; NaN loses, as in C's fmax.
template <class V> __device__ inline V warp_max(V x) {
    for (int step = 16; step > 0; step /= 2) {
        V other = __shfl_xor_sync(0xffffffffu, x, step);
        x = other > x || is_nan(x) ? other : x;
    }
    return x;
}

__device__ inline Candidate warp_first(Candidate mine) {
    for (int step = 16; step > 0; step /= 2) {
        Candidate other = {__shfl_xor_sync(0xffffffffu, mine.key, step), __shfl_xor_sync(0xffffffffu, mine.index, step)};
        mine = before(other, mine) ? other : mine;
    }
    return mine;
}

// Of all threads of a block of at most 512 threads, a multiple of 32.
template <class V> __device__ inline V block_sum(V x) {
    __shared__ V part[32];
    x = warp_sum(x);
    __syncthreads();                              // nobody still reads the sums of a call before
    if (lane() == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    V total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) total += part[w];
    return total;
}

// The sum of x over the threads before this one; `total` becomes the sum over all.
__device__ inline i64 block_before(i64 x, i64 &total) {
    __shared__ i64 part[32];
    i64 sum = x;
    for (int step = 1; step < 32; step *= 2) {
        i64 other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane() >= step) sum += other;
    }
    __syncthreads();
    if (lane() == 31) part[threadIdx.x / 32] = sum;
    __syncthreads();
    i64 earlier = 0;
    total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        if (w < threadIdx.x / 32) earlier += part[w];
        total += part[w];
    }
    return earlier + sum - x;
}

// Counting by many threads: the result does not depend on who comes first.
__device__ inline void count_up(i64 *at) { atomicAdd((unsigned long long *)at, 1ULL); }
