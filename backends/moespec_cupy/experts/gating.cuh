// The hidden layer of gated experts: h = s(g) v(u), and back.  No limit is an infinite one, no cap is 0.
#pragma once
#include "activations.cuh"

struct Gating {
    i64 kind, general;              // general: cap(z) sigmoid(alpha z) in place of the activation
    A before, after, beside;        // limits of the gate before and after the activation, and of the up projection
    A alpha, offset, cap_gate, cap_up;

    __device__ A limited(A u) const { return u > beside ? beside : u < -beside ? -beside : u; }
    __device__ A curve(A z) const {
        if (!general) return activation<A>(kind, z);
        return (cap_gate == 0 ? z : cap_gate * tanh(z / cap_gate)) * logistic(alpha * z);
    }
    __device__ A slope(A z) const {
        if (!general) return activation_slope<A>(kind, z);
        A p = logistic(alpha * z);
        if (cap_gate == 0) return p * (1 + alpha * z * (1 - p));
        A t = tanh(z / cap_gate);
        return p * (1 - t * t + alpha * cap_gate * t * (1 - p));
    }
    __device__ A gate(A g) const {
        A s = curve(g > before ? before : g);
        return s > after ? after : s;
    }
    __device__ A up(A u) const {
        A v = limited(u);
        return (cap_up == 0 ? v : cap_up * tanh(v / cap_up)) + offset;
    }
    // Passed where a value equals its limit, 0 beyond.
    __device__ A pull_gate(A ds, A g) const {
        if (g > before || curve(g) > after) return 0;
        return ds * slope(g);
    }
    __device__ A pull_up(A dv, A u) const {
        if (u > beside || u < -beside) return 0;
        A t = cap_up == 0 ? (A)0 : tanh(limited(u) / cap_up);
        return dv * (1 - t * t);
    }
};
