#include "../columns.cuh"

template <class S> __device__ inline A gain_at(const S *scale, i64 d, A offset) { return scale ? (A)widen(scale[d]) + offset : (A)1; }

// inverse [T]: 1 / rms.
KERNEL rms_norm(const T *x, const U *scale, T *y, A *inverse, i64 tokens, i64 width, A eps, A factor, A offset, bool before_it) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *row = x + t * width;
        auto divided = [&](i64 d) { return before_it ? (A)widen(row[d]) * gain_at(scale, d, offset) : (A)widen(row[d]); };
        A sum = 0;
        for (i64 d = lane(); d < width; d += 32) sum += divided(d) * divided(d);
        A r = 1 / sqrt(warp_sum(sum) / (A)width + eps);
        if (lane() == 0) inverse[t] = r;
        for (i64 d = lane(); d < width; d += 32)
            y[t * width + d] = narrow<T>(divided(d) * r * factor * (before_it ? (A)1 : gain_at(scale, d, offset)));
    }
}

// along [T]: the part of the row itself in the gradient of what was divided, dz = r (u - along z).
KERNEL rms_norm_backward(const T *x, const U *scale, const A *inverse, const T *dy, T *dx, A *along,
                         i64 tokens, i64 width, A factor, A offset, bool before_it) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        auto gain = [&](i64 d) { return gain_at(scale, d, offset); };
        auto z = [&](i64 d) { return (A)widen(x[t * width + d]) * (before_it ? gain(d) : (A)1); };
        auto u = [&](i64 d) { return (A)widen(dy[t * width + d]) * factor * (before_it ? (A)1 : gain(d)); };
        A r = inverse[t], inner = 0;
        for (i64 d = lane(); d < width; d += 32) inner += u(d) * z(d);
        inner = r * r * (warp_sum(inner) / (A)width);
        if (lane() == 0) along[t] = inner;
        for (i64 d = lane(); d < width; d += 32)
            dx[t * width + d] = narrow<T>(r * (u(d) - z(d) * inner) * (before_it ? gain(d) : (A)1));
    }
}

KERNEL rms_norm_to_scale(const T *x, const U *scale, const A *inverse, const T *dy, const A *along, U *dscale,
                         i64 tokens, i64 width, A factor, A offset, bool before_it) {
    column_sums<A>(tokens, width, [&](i64 t, i64 d) {
        A v = widen(x[t * width + d]), u = (A)widen(dy[t * width + d]) * factor;
        return before_it ? inverse[t] * (u - v * gain_at(scale, d, offset) * along[t]) * v : u * v * inverse[t];
    }, [&](i64 d, A sum) { dscale[d] = narrow<U>(sum); });
}
