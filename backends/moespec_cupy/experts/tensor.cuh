// A tile of a matrix product by tensor cores: float16 and bfloat16, added up in float32.  Blocks of THREADS threads.
#pragma once
#include <mma.h>

constexpr int THREADS = 256, TILE_M = 128, TILE_N = 128, TILE_K = 32;

template <bool FIRST, class X, class Y> struct chosen { typedef X type; };
template <class X, class Y> struct chosen<false, X, Y> { typedef Y type; };

// Loops over fragments are unrolled: an index that is not constant would move the sums from registers to memory.
class Tile {
    // Eight warps, two by four; a warp has 64 x 32 of the tile: 4 x 2 fragments of 16 x 16.
    static constexpr int DOWN = 4, ACROSS = 2, SKEW = 8, VECTOR = 8;
    static constexpr int ROOM = TILE_M * (TILE_K + SKEW);               // elements of one operand; the other orientation needs less
    static constexpr int EACH = TILE_M * TILE_K / (THREADS * VECTOR);
    typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> Sum;
    Sum sum[DOWN][ACROSS];

    struct alignas(16) Vector {
        T x[VECTOR];
    };
    // Two buffers of two operands; when the sums are read they pass through the same memory.
    __device__ static T *room() {
        __shared__ __align__(32) unsigned char bytes[4 * ROOM * sizeof(T)];
        return (T *)bytes;
    }
    template <bool BY_K> __device__ static constexpr int inner() { return BY_K ? TILE_M : TILE_K; }
    template <bool BY_K> __device__ static constexpr int pitch() { return inner<BY_K>() + SKEW; }

    template <bool BY_K> __device__ static void fetch(Vector (&out)[EACH], const Panel &p, i64 k, i64 first, bool aligned) {
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int i = threadIdx.x + j * THREADS, o = i / (inner<BY_K>() / VECTOR), c = i % (inner<BY_K>() / VECTOR) * VECTOR;
            i64 column = (BY_K ? first : k) + c;
            const T *row = p.row((BY_K ? k : first) + o);
            if (row && aligned && column + VECTOR <= p.columns) {
                out[j] = *(const Vector *)(row + column);
                continue;
            }
#pragma unroll
            for (int v = 0; v < VECTOR; v++) out[j].x[v] = row && column + v < p.columns ? row[column + v] : narrow<T>(0.0f);
        }
    }
    template <bool BY_K> __device__ static void put(T *to, const Vector (&in)[EACH]) {
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int i = threadIdx.x + j * THREADS, o = i / (inner<BY_K>() / VECTOR), c = i % (inner<BY_K>() / VECTOR) * VECTOR;
            *(Vector *)(to + o * pitch<BY_K>() + c) = in[j];
        }
    }
    __device__ static bool is_aligned(const Panel &p) { return p.stride % VECTOR == 0 && (unsigned long long)p.base % sizeof(Vector) == 0; }
    __device__ static int warp_m() { return threadIdx.x / 32 / 4 * 16 * DOWN; }
    __device__ static int warp_n() { return threadIdx.x / 32 % 4 * 16 * ACROSS; }

    template <bool A_BY_K, bool B_BY_K> __device__ void multiply(const T *a, const T *b) {
        using namespace nvcuda::wmma;
        typedef typename chosen<A_BY_K, col_major, row_major>::type A_major;
        typedef typename chosen<B_BY_K, row_major, col_major>::type B_major;
#pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            fragment<matrix_a, 16, 16, 16, T, A_major> left[DOWN];
            fragment<matrix_b, 16, 16, 16, T, B_major> right[ACROSS];
#pragma unroll
            for (int i = 0; i < DOWN; i++) load_matrix_sync(left[i], at<A_BY_K>(a, warp_m() + 16 * i, k), pitch<A_BY_K>());
#pragma unroll
            for (int j = 0; j < ACROSS; j++) load_matrix_sync(right[j], at<B_BY_K>(b, warp_n() + 16 * j, k), pitch<B_BY_K>());
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) mma_sync(sum[i][j], left[i], right[j], sum[i][j]);
        }
    }
    template <bool BY_K> __device__ static const T *at(const T *from, int position, int k) {
        return from + (BY_K ? k * pitch<BY_K>() + position : position * pitch<BY_K>() + k);
    }

  public:
    __device__ Tile() {
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++) nvcuda::wmma::fill_fragment(sum[i][j], 0.0f);
    }

    // Adds the product of a, from row (or column) m on, and b, from n on, over `depth` steps.  The next step is fetched while one is multiplied.
    template <bool A_BY_K, bool B_BY_K> __device__ void add(const Panel &a, i64 m, const Panel &b, i64 n, i64 depth) {
        bool aligned_a = is_aligned(a), aligned_b = is_aligned(b);
        Vector next_a[EACH], next_b[EACH];
        fetch<A_BY_K>(next_a, a, 0, m, aligned_a);
        fetch<B_BY_K>(next_b, b, 0, n, aligned_b);
        __syncthreads();                               // what is there has been used
        int turn = 0;
        for (i64 k = 0; k < depth; k += TILE_K, turn ^= 1) {
            T *to_a = room() + turn * 2 * ROOM, *to_b = to_a + ROOM;
            put<A_BY_K>(to_a, next_a);
            put<B_BY_K>(to_b, next_b);
            __syncthreads();
            if (k + TILE_K < depth) {
                fetch<A_BY_K>(next_a, a, k + TILE_K, m, aligned_a);
                fetch<B_BY_K>(next_b, b, k + TILE_K, n, aligned_b);
            }
            multiply<A_BY_K, B_BY_K>(to_a, to_b);
        }
    }

    // f(m, n, sum) for the elements of this thread.
    template <class F> __device__ void each(F f) const {
        each(*this, [&](int m, int n, float x, float) { f(m, n, x); });
    }
    // f(m, n, sum, the other's sum).
    template <class F> __device__ void each(const Tile &other, F f) const {
        float *mine = (float *)room() + threadIdx.x / 32 * 512, *others = mine + 256;
        __syncthreads();                               // the operands have been used
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                nvcuda::wmma::store_matrix_sync(mine, sum[i][j], 16, nvcuda::wmma::mem_row_major);
                nvcuda::wmma::store_matrix_sync(others, other.sum[i][j], 16, nvcuda::wmma::mem_row_major);
                __syncwarp();
                for (int e = lane(); e < 256; e += 32) f(warp_m() + 16 * i + e / 16, warp_n() + 16 * j + e % 16, mine[e], others[e]);
                __syncwarp();
            }
    }
};
