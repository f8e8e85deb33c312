#include "../losses/lse.cuh"
#include "softmax.cuh"

// One warp a token and node; a level's logits begin in column `first` of [tokens, edges].  above [tokens, nodes], leaf [tokens, nodes children].
KERNEL tree_level(const T *logits, const A *above, A *leaf, i64 tokens, i64 edges, i64 first, i64 nodes, i64 children) {
    for (i64 i = warp_index(); i < tokens * nodes; i += warp_count()) {
        const T *x = logits + i / nodes * edges + first + i % nodes * children;
        A whole = lse_of<A>(children, [&](i64 c) { return (A)widen(x[c]); });
        for (i64 c = lane(); c < children; c += 32) leaf[i * children + c] = above[i] + ((A)widen(x[c]) - whole);
    }
}

// below [tokens, nodes children]: what all leaves below a child ask for; whole [tokens, nodes]: their sum.
KERNEL tree_level_backward(const T *logits, const A *below, A *whole, T *dlogits, i64 tokens, i64 edges, i64 first, i64 nodes, i64 children) {
    for (i64 i = warp_index(); i < tokens * nodes; i += warp_count()) {
        i64 start = i / nodes * edges + first + i % nodes * children;
        const T *x = logits + start;
        const A *own = below + i * children;
        Softmax<A> gate = softmax_of<A>(children, [&](i64 c) { return (A)widen(x[c]); });
        A sum = 0;
        for (i64 c = lane(); c < children; c += 32) sum += own[c];
        sum = warp_sum(sum);
        for (i64 c = lane(); c < children; c += 32) dlogits[start + c] = narrow<T>(own[c] - gate.at(widen(x[c])) * sum);
        if (lane() == 0) whole[i] = sum;
    }
}
