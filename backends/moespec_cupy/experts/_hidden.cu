#include "gating.cuh"
#include "grouped.cuh"

// Everything that is kept or goes into the next product is rounded to T, and used as it was rounded.
__device__ inline A rounded(A x) { return widen(narrow<T>(x)); }

// h from g and u; without up projection v is 1.
__device__ inline T hidden_of(const Gating &a, A g, A u, bool gated, const T *mask) {
    A h = rounded(gated ? a.gate(g) * a.up(u) : a.gate(g));
    return narrow<T>(mask ? h * (A)widen(*mask) : h);
}

// dg and du from dh, the cotangent of h.
__device__ inline void through_hidden(const Gating &a, A dh, A g, A u, bool gated, const T *mask, T *dg, T *du) {
    if (mask) dh *= (A)widen(*mask);
    *dg = narrow<T>(a.pull_gate(gated ? dh * a.up(u) : dh, g));
    if (gated) *du = narrow<T>(a.pull_up(dh * a.gate(g), u));
}

#undef KERNEL                    // two tiles a block: one block a multiprocessor where they take all registers
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)

// g = x w_gate + b_gate, u = x w_up + b_up, h: the first half of a gated or (without w_up) plain expert, in one pass.
KERNEL grouped_hidden(const T *x, const i64 *index, const T *w_gate, const T *w_up, const T *b_gate, const T *b_up, const T *mask, const i64 *offsets,
                      T *g, T *u, T *h, i64 rows, i64 known, i64 depth, i64 width, i64 experts,
                      i64 kind, i64 general, A before, A after, A beside, A alpha, A offset, A cap_gate, A cap_up) {
    Gating a = {kind, general, before, after, beside, alpha, offset, cap_gate, cap_up};
    own_tile(offsets, experts, rows, width, [&](Rows r, i64 column) {
        Tile gates, ups;
        bool live = r.expert < experts;
        Panel left = gathered(index ? x : x + r.first * depth, index ? index + r.first : index, r.stop - r.first, depth, known);
        if (live) gates.add<false, true>(left, 0, panel(w_gate + r.expert * depth * width, depth, width), column, depth);
        if (live && w_up) ups.add<false, true>(left, 0, panel(w_up + r.expert * depth * width, depth, width), column, depth);
        gates.each(ups, [&](int m, int n, A gate, A up) {
            i64 f = column + n, at = (r.first + m) * width + f;
            if (r.first + m >= r.stop || f >= width) return;
            if (live && b_gate) gate += (A)widen(b_gate[r.expert * width + f]);
            if (live && b_up) up += (A)widen(b_up[r.expert * width + f]);
            g[at] = narrow<T>(gate);
            if (w_up) u[at] = narrow<T>(up);
            h[at] = live ? hidden_of(a, rounded(gate), rounded(up), w_up, mask ? mask + at : mask) : narrow<T>((A)0);
        });
    });
}

#undef KERNEL
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)

// From dy back to dg and du, and h once more, for the gradient of w_down.
KERNEL grouped_hidden_backward(const T *dy, const T *w_down, const T *g, const T *u, const T *mask, const i64 *offsets, T *dg, T *du, T *h,
                               i64 rows, i64 depth, i64 width, i64 experts,
                               i64 kind, i64 general, A before, A after, A beside, A alpha, A offset, A cap_gate, A cap_up) {
    Gating a = {kind, general, before, after, beside, alpha, offset, cap_gate, cap_up};
    own_tile(offsets, experts, rows, width, [&](Rows r, i64 column) {
        Tile sum;
        bool live = r.expert < experts;
        if (live) sum.add<false, false>(panel(dy + r.first * depth, r.stop - r.first, depth), 0,
                                        panel(w_down + r.expert * depth * width, width, depth), column, depth);
        sum.each([&](int m, int n, A dh) {
            i64 f = column + n, at = (r.first + m) * width + f;
            if (r.first + m >= r.stop || f >= width) return;
            T *to_up = u ? du + at : du;
            if (!live) {
                dg[at] = h[at] = narrow<T>((A)0);
                if (u) *to_up = narrow<T>((A)0);
                return;
            }
            A gate = widen(g[at]), up = u ? (A)widen(u[at]) : (A)0;
            const T *kept = mask ? mask + at : mask;
            h[at] = hidden_of(a, gate, up, u, kept);
            through_hidden(a, dh, gate, up, u, kept, dg + at, to_up);
        });
    });
}

// The same between products that are computed elsewhere.
KERNEL hidden(const T *g, const T *u, const T *mask, T *h, i64 size,
              i64 kind, i64 general, A before, A after, A beside, A alpha, A offset, A cap_gate, A cap_up) {
    Gating a = {kind, general, before, after, beside, alpha, offset, cap_gate, cap_up};
    for (i64 i = thread_index(); i < size; i += thread_count())
        h[i] = hidden_of(a, widen(g[i]), u ? (A)widen(u[i]) : (A)0, u, mask ? mask + i : mask);
}

KERNEL hidden_backward(const T *dh, const T *g, const T *u, const T *mask, T *dg, T *du, T *h, i64 size,
                       i64 kind, i64 general, A before, A after, A beside, A alpha, A offset, A cap_gate, A cap_up) {
    Gating a = {kind, general, before, after, beside, alpha, offset, cap_gate, cap_up};
    for (i64 i = thread_index(); i < size; i += thread_count()) {
        A gate = widen(g[i]), up = u ? (A)widen(u[i]) : (A)0;
        const T *kept = mask ? mask + i : mask;
        h[i] = hidden_of(a, gate, up, u, kept);
        through_hidden(a, widen(dh[i]), gate, up, u, kept, dg + i, u ? du + i : du);
    }
}
