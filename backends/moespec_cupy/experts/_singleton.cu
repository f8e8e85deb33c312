#include "activations.cuh"

// c = w f(g), of choices that are live.
KERNEL weigh_neurons(const A *g, const A *weights, const i64 *ids, A *c, i64 entries, i64 experts, i64 kind) {
    for (i64 i = thread_index(); i < entries; i += thread_count())
        c[i] = legal(ids[i], experts) < 0 ? (A)0 : weights[i] * activation<A>(kind, g[i]);
}

// From dc, the cotangent of c, to those of g and of the weights; c once more.
KERNEL weigh_neurons_backward(const A *g, const A *dc, const A *weights, const i64 *ids, A *dg, A *c, A *dweights,
                              i64 entries, i64 experts, i64 kind) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) {
        bool live = legal(ids[i], experts) >= 0;
        A w = weights[i], h = live ? activation<A>(kind, g[i]) : (A)0;
        dg[i] = live ? dc[i] * w * activation_slope<A>(kind, g[i]) : (A)0;
        c[i] = live ? w * h : (A)0;
        dweights[i] = live ? dc[i] * h : (A)0;
    }
}
