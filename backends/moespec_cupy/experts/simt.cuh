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

    __device__ A of_row(int i, int j) const { return i == 0 ? sum[0][j] : i == 1 ? sum[1][j] : i == 2 ? sum[2][j] : sum[3][j]; }

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

    // f(m, n, sum) for every element of the tile, neighbours by neighbouring threads.
    template <class F> __device__ void each(F f) const {
        each(*this, [&](int m, int n, A x, A) { f(m, n, x); });
    }
    // f(m, n, sum, the other's sum).  Sums pass through shared memory, a quarter at a time: there is one f then, not one for every sum.
    template <class F> __device__ void each(const Tile &other, F f) const {
        A *mine = &room().a[0][0], *others = &room().b[0][0];
#pragma unroll 1
        for (int i = 0; i < 4; i++) {
            __syncthreads();                       // what is there has been used
#pragma unroll
            for (int j = 0; j < 4; j++) {
                mine[threadIdx.x * 4 + j] = of_row(i, j);
                others[threadIdx.x * 4 + j] = other.of_row(i, j);
            }
            __syncthreads();
#pragma unroll 1
            for (int e = threadIdx.x; e < THREADS * 4; e += THREADS) f(e / TILE_N * 4 + i, e % TILE_N, mine[e], others[e]);
        }
    }
};
