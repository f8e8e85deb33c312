// Tensor cores as the CUDA header of this name has them: a fragment is held by the first lane of its warp, products are added up in float32.
// The other lanes do not wait for it: what is to be seen by them, or may be overwritten, needs a barrier of its own.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

static inline float number(float x) { return x; }
static inline float number(__half x) { return __half2float(x); }
static inline float number(__nv_bfloat16 x) { return __bfloat162float(x); }
static inline bool first_lane() { return (emulation::me() & 31) == 0; }

template <class Use, int M, int N, int K, class V, class Layout = void> struct fragment {
    float x[256];
    bool zeros = false, finite = false;                    // known when it was loaded
};

template <class F> void fill_fragment(F &f, float value) {
    for (float &x : f.x) x = value;
}

template <class V, class Layout> bool by_rows() { return std::is_same<Layout, row_major>::value; }

template <class Use, class V, class Layout> void load_matrix_sync(fragment<Use, 16, 16, 16, V, Layout> &f, const V *from, unsigned pitch) {
    if ((uintptr_t)from % 32 || pitch * sizeof(V) % 16) abort();          // what the hardware asks for
    f.zeros = f.finite = first_lane();
    for (int r = 0; first_lane() && r < 16; r++)
        for (int c = 0; c < 16; c++) {
            float x = f.x[r * 16 + c] = number(by_rows<V, Layout>() ? from[r * pitch + c] : from[c * pitch + r]);
            f.zeros = f.zeros && x == 0;
            f.finite = f.finite && x - x == 0;
        }
}

template <class V, class L, class R>
void mma_sync(fragment<accumulator, 16, 16, 16, float> &d, const fragment<matrix_a, 16, 16, 16, V, L> &a, const fragment<matrix_b, 16, 16, 16, V, R> &b,
              const fragment<accumulator, 16, 16, 16, float> &c) {
    if (!first_lane()) return;
    if ((a.zeros && b.finite) || (a.finite && b.zeros)) {  // most of a tile, where matrices are small
        d = c;
        return;
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float sum = c.x[i * 16 + j];
            for (int k = 0; k < 16; k++) sum += a.x[i * 16 + k] * b.x[k * 16 + j];
            d.x[i * 16 + j] = sum;
        }
}

static inline void store_matrix_sync(float *to, const fragment<accumulator, 16, 16, 16, float> &f, unsigned pitch, layout_t) {
    if ((uintptr_t)to % 32 || pitch % 4) abort();
    for (int i = 0; first_lane() && i < 256; i++) to[i / 16 * pitch + i % 16] = f.x[i];
}

}  // namespace wmma
}  // namespace nvcuda
