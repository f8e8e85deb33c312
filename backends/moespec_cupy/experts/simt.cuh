// A tile of a matrix product by ordinary arithmetic: float32 and float64.  Blocks of THREADS threads.
#pragma once

constexpr int THREADS = 256, TILE_M = 64, TILE_N = 64, TILE_K = 16;

// Loops over the sums are unrolled: an index that is not constant would move them from registers to memory.
class Tile {
    static constexpr int PITCH = TILE_M + 4, EACH = TILE_M * TILE_K / THREADS;
    A sum[4][4];

    struct Room {
        A a[TILE_K][PITCH], b[TILE_K][PITCH];
    };
    __device__ static Room &room() {
        __shared__ Room shared;
        return shared;
    }

    // The elements of this thread of a tile [TILE_K, 64] that begins at (k, first); BY_K: rows of the panel are steps of the sum.
    template <bool BY_K> __device__ static void fetch(A (&out)[EACH], const Panel &p, i64 k, i64 first) {
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int i = threadIdx.x + j * THREADS;
            i64 o = BY_K ? k + i / TILE_M : first + i / TILE_K, c = BY_K ? first + i % TILE_M : k + i % TILE_K;
            const T *row = p.row(o);
            out[j] = row && c < p.columns ? (A)widen(row[c]) : (A)0;
        }
    }
    template <bool BY_K> __device__ static void put(A (&to)[TILE_K][PITCH], const A (&in)[EACH]) {
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int i = threadIdx.x + j * THREADS;
            to[BY_K ? i / TILE_M : i % TILE_K][BY_K ? i % TILE_M : i / TILE_K] = in[j];
        }
    }

  public:
    __device__ Tile() {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum[i][j] = 0;
    }

    // Adds the product of a, from row (or column) m on, and b, from n on, over `depth` steps.
    template <bool A_BY_K, bool B_BY_K> __device__ void add(const Panel &a, i64 m, const Panel &b, i64 n, i64 depth) {
        Room &shared = room();
        int x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4;
        A next_a[EACH], next_b[EACH];
        fetch<A_BY_K>(next_a, a, 0, m);
        fetch<B_BY_K>(next_b, b, 0, n);
        for (i64 k = 0; k < depth; k += TILE_K) {
            __syncthreads();                       // what is there has been used
            put<A_BY_K>(shared.a, next_a);
            put<B_BY_K>(shared.b, next_b);
            __syncthreads();
            if (k + TILE_K < depth) {
                fetch<A_BY_K>(next_a, a, k + TILE_K, m);
                fetch<B_BY_K>(next_b, b, k + TILE_K, n);
            }
#pragma unroll
            for (int step = 0; step < TILE_K; step++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[i][j] += shared.a[step][y + i] * shared.b[step][x + j];
        }
    }

    // f(m, n, sum) for the elements of this thread.
    template <class F> __device__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) f(threadIdx.x / 16 * 4 + i, threadIdx.x % 16 * 4 + j, sum[i][j]);
    }
    // f(m, n, sum, the other's sum).
    template <class F> __device__ void each(const Tile &other, F f) const {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) f(threadIdx.x / 16 * 4 + i, threadIdx.x % 16 * 4 + j, sum[i][j], other.sum[i][j]);
    }
};
