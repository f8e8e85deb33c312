// A tile of a matrix product by tensor cores: float16 and bfloat16, added up in float32.  Blocks of THREADS threads.
#pragma once
#include <cuda_pipeline_primitives.h>
#include <mma.h>

constexpr int THREADS = 256, TILE_M = 128, TILE_N = 128, TILE_K = 32;

template <bool FIRST, class X, class Y> struct chosen { typedef X type; };
template <class X, class Y> struct chosen<false, X, Y> { typedef Y type; };

// Loops over fragments are unrolled: an index that is not constant would move the sums from registers to memory.
class Tile {
    // Eight warps, two by four; a warp has 64 x 32 of the tile: 4 x 2 fragments of 16 x 16.
    static constexpr int DOWN = 4, ACROSS = 2, SKEW = 8, VECTOR = 8;
    static constexpr int ROOM = TILE_M * (TILE_K + SKEW);               // elements of one operand; the other orientation needs less
    static constexpr int STRIP = 16 * ACROSS + 4;                       // of a row of sums: banks apart
    static constexpr int EACH = TILE_M * TILE_K / (THREADS * VECTOR);
    typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> Sum;
    Sum sum[DOWN][ACROSS];

    // Two buffers of two operands; when the sums are read they pass through the same memory.
    __device__ static T *room() {
        __shared__ __align__(32) unsigned char bytes[4 * ROOM * sizeof(T)];
        return (T *)bytes;
    }
    template <bool BY_K> __device__ static constexpr int inner() { return BY_K ? TILE_M : TILE_K; }
    template <bool BY_K> __device__ static constexpr int pitch() { return inner<BY_K>() + SKEW; }

    // What this thread copies of an operand, from step to step.
    template <bool BY_K> struct Source {
        const Panel &p;
        i64 first;
        bool aligned;

        __device__ Source(const Panel &panel, i64 from) : p(panel), first(from) {
            aligned = p.stride % VECTOR == 0 && (unsigned long long)p.base % (VECTOR * sizeof(T)) == 0;
        }
        __device__ static int outer(int j) { return (threadIdx.x + j * THREADS) / (inner<BY_K>() / VECTOR); }
        __device__ static int along() { return threadIdx.x % (inner<BY_K>() / VECTOR) * VECTOR; }

        __device__ bool whole(const T *row, i64 column) const { return row && aligned && column + VECTOR <= p.columns; }

        // Whole vectors arrive later, without passing through registers; edges and odd rows at once.
        __device__ void copy(T *to, i64 k) const {
            i64 column = (BY_K ? first : k) + along();
            to += along();
            bool edge = false;
#pragma unroll
            for (int j = 0; j < EACH; j++) {
                const T *row = p.row((BY_K ? k : first) + outer(j));
                if (whole(row, column)) __pipeline_memcpy_async(to + outer(j) * pitch<BY_K>(), row + column, VECTOR * sizeof(T));
                else edge = true;
            }
            if (edge) copy_edges(to, BY_K ? k : first, column);
        }
        // Loops are not unrolled: they would take registers from the products.
        __device__ void copy_edges(T *to, i64 begin, i64 column) const {
#pragma unroll 1
            for (int j = 0; j < EACH; j++) {
                const T *row = p.row(begin + outer(j));
                T *at = to + outer(j) * pitch<BY_K>();
#pragma unroll 1
                for (int v = 0; v < VECTOR && !whole(row, column); v++) at[v] = row && column + v < p.columns ? row[column + v] : narrow<T>(0.0f);
            }
        }
    };
    __device__ static int warp_m() { return threadIdx.x / 32 / 4 * 16 * DOWN; }
    __device__ static int warp_n() { return threadIdx.x / 32 % 4 * 16 * ACROSS; }

    template <bool A_BY_K, bool B_BY_K> __device__ void multiply(const T *a, const T *b) {
        using namespace nvcuda::wmma;
        typedef typename chosen<A_BY_K, col_major, row_major>::type A_major;
        typedef typename chosen<B_BY_K, row_major, col_major>::type B_major;
#pragma unroll 1                                        // two steps at once would take more registers than there are
        for (int k = 0; k < TILE_K; k += 16) {
            fragment<matrix_b, 16, 16, 16, T, B_major> right[ACROSS];
#pragma unroll
            for (int j = 0; j < ACROSS; j++) load_matrix_sync(right[j], at<B_BY_K>(b, warp_n() + 16 * j, k), pitch<B_BY_K>());
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                fragment<matrix_a, 16, 16, 16, T, A_major> left;
                load_matrix_sync(left, at<A_BY_K>(a, warp_m() + 16 * i, k), pitch<A_BY_K>());
#pragma unroll
                for (int j = 0; j < ACROSS; j++) mma_sync(sum[i][j], left, right[j], sum[i][j]);
            }
        }
    }
    // A strip of sums, as wide as a warp's part of the tile.
    __device__ void lay(float *to, int i) const {
#pragma unroll
        for (int j = 0; j < ACROSS; j++) nvcuda::wmma::store_matrix_sync(to + 16 * j, sum[i][j], STRIP, nvcuda::wmma::mem_row_major);
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

    // Adds the product of a, from row (or column) m on, and b, from n on, over `depth` steps.  The next step is copied while one is multiplied.
    template <bool A_BY_K, bool B_BY_K> __device__ void add(const Panel &a, i64 m, const Panel &b, i64 n, i64 depth) {
        Source<A_BY_K> left(a, m);
        Source<B_BY_K> right(b, n);
        T *next = room(), *now = next + 2 * ROOM;
        for (i64 k = -TILE_K; k < depth; k += TILE_K) {
            __pipeline_wait_prior(0);
            __syncthreads();                           // everybody's copies are there, and what is in `next` has been used
            if (k + TILE_K < depth) {
                left.copy(next, k + TILE_K);
                right.copy(next + ROOM, k + TILE_K);
                __pipeline_commit();
            }
            if (k >= 0) multiply<A_BY_K, B_BY_K>(now, now + ROOM);
            T *used = now;
            now = next;
            next = used;
        }
    }

    // f(m, n, sum) for the elements of this warp, neighbours by neighbouring lanes.
    template <class F> __device__ void each(F f) const {
        each(*this, [&](int m, int n, float x, float) { f(m, n, x); });
    }
    // f(m, n, sum, the other's sum).
    template <class F> __device__ void each(const Tile &other, F f) const {
        float *mine = (float *)room() + threadIdx.x / 32 * 2 * 16 * STRIP, *others = this == &other ? mine : mine + 16 * STRIP;
        __syncthreads();                               // the operands have been used
#pragma unroll
        for (int i = 0; i < DOWN; i++) {
            lay(mine, i);
            if (this != &other) other.lay(others, i);
            __syncwarp();
#pragma unroll 1
            for (int r = 0; r < 16; r++) f(warp_m() + 16 * i + r, warp_n() + lane(), mine[r * STRIP + lane()], others[r * STRIP + lane()]);
            __syncwarp();
        }
    }
};
