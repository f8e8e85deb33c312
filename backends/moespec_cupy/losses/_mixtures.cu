#include "../gates/softmax.cuh"
#include "lse.cuh"

// Losses of several experts' outputs [tokens, experts, width] for one target; one warp a token.

// error [tokens, width]: what the blend leaves over; squares [tokens].
KERNEL blend_error(const T *probs, const T *outputs, const T *target, A *error, A *squares, i64 tokens, i64 experts, i64 width) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A sum = 0;
        for (i64 c = lane(); c < width; c += 32) {
            A blend = 0;
            for (i64 e = 0; e < experts; e++) blend += (A)widen(probs[t * experts + e]) * (A)widen(outputs[(t * experts + e) * width + c]);
            A left = (A)widen(target[t * width + c]) - blend;
            error[t * width + c] = left;
            sum += left * left;
        }
        sum = warp_sum(sum);
        if (lane() == 0) squares[t] = sum;
    }
}

KERNEL blend_error_backward(const T *probs, const T *outputs, const A *error, const A *dloss, T *dprobs, T *doutputs, A share,
                            i64 tokens, i64 experts, i64 width) {
    for (i64 i = warp_index(); i < tokens * experts; i += warp_count()) {
        A scale = -2 * share * *dloss, inner = 0;
        for (i64 c = lane(); c < width; c += 32) {
            A d = scale * error[i / experts * width + c];
            inner += d * (A)widen(outputs[i * width + c]);
            doutputs[i * width + c] = narrow<T>((A)widen(probs[i]) * d);
        }
        inner = warp_sum(inner);
        if (lane() == 0) dprobs[i] = narrow<T>(inner);
    }
}

// One warp a token and expert.
__device__ inline A squared_error(const T *output, const T *target, i64 width) {
    A sum = 0;
    for (i64 c = lane(); c < width; c += 32) {
        A left = (A)widen(target[c]) - (A)widen(output[c]);
        sum += left * left;
    }
    return warp_sum(sum);
}

KERNEL squared_errors(const T *outputs, const T *target, A *squared, i64 tokens, i64 experts, i64 width) {
    for (i64 i = warp_index(); i < tokens * experts; i += warp_count()) {
        A sum = squared_error(outputs + i * width, target + i / experts * width, width);
        if (lane() == 0) squared[i] = sum;
    }
}

KERNEL expected(const T *probs, const A *squared, A *values, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        A sum = 0;
        for (i64 e = lane(); e < experts; e += 32) sum += (A)widen(probs[t * experts + e]) * squared[t * experts + e];
        sum = warp_sum(sum);
        if (lane() == 0) values[t] = sum;
    }
}

KERNEL expected_backward(const A *squared, const A *dloss, T *dprobs, A share, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) dprobs[i] = narrow<T>(share * *dloss * squared[i]);
}

// doutputs = -scale * dloss * weight of the expert * its error; the weights are probabilities or posteriors.
KERNEL errors_backward(const A *weights, const T *outputs, const T *target, const A *dloss, T *doutputs, A scale, i64 n, i64 experts, i64 width) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 row = i / width;
        A left = (A)widen(target[row / experts * width + i % width]) - (A)widen(outputs[i]);
        doutputs[i] = narrow<T>(-scale * *dloss * weights[row] * left);
    }
}

// One warp a token and expert: the log likelihood of the label, of classes `width`; 0 where there is none.
KERNEL label_likelihoods(const T *outputs, const i64 *labels, A *likelihood, bool *counts, i64 tokens, i64 experts, i64 width) {
    for (i64 i = warp_index(); i < tokens * experts; i += warp_count()) {
        i64 label = legal(labels[i / experts], width);
        const T *x = outputs + i * width;
        A all = lse_of<A>(width, [&](i64 c) { return (A)widen(x[c]); });
        if (lane() == 0) {
            likelihood[i] = label < 0 ? (A)0 : (A)widen(x[label]) - all;
            if (i % experts == 0) counts[i / experts] = label >= 0;
        }
    }
}

// joint = log prior + scale * given [tokens, experts]; values [tokens] = -log sum exp joint.
KERNEL join_prior(const T *logits, const A *given, A *joint, A *values, A scale, i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *s = logits + t * experts;
        A all = lse_of<A>(experts, [&](i64 e) { return (A)widen(s[e]); });
        A *own = joint + t * experts;
        for (i64 e = lane(); e < experts; e += 32) own[e] = (A)widen(s[e]) - all + scale * given[t * experts + e];
        A value = -lse_of<A>(experts, [&](i64 e) { return own[e]; });            // a lane reads what it wrote
        if (lane() == 0) values[t] = value;
    }
}

// posterior, and dlogits = share (prior sum(posterior) - posterior) dloss; 0 where the token does not count.
KERNEL join_prior_backward(const T *logits, const A *joint, const bool *mask, const A *share, const A *dloss, A *posterior, T *dlogits,
                           i64 tokens, i64 experts) {
    for (i64 t = warp_index(); t < tokens; t += warp_count()) {
        const T *s = logits + t * experts;
        const A *own = joint + t * experts;
        Softmax<A> prior = softmax_of<A>(experts, [&](i64 e) { return (A)widen(s[e]); });
        Softmax<A> after = softmax_of<A>(experts, [&](i64 e) { return own[e]; });
        A sum = 0;
        for (i64 e = lane(); e < experts; e += 32) sum += after.at(own[e]);
        sum = warp_sum(sum);                                                     // 1 up to rounding
        bool counts = !mask || mask[t];
        for (i64 e = lane(); e < experts; e += 32) {
            A h = after.at(own[e]);
            posterior[t * experts + e] = h;
            dlogits[t * experts + e] = narrow<T>(counts ? *share * *dloss * (prior.at(widen(s[e])) * sum - h) : (A)0);
        }
    }
}

KERNEL labels_backward(const T *outputs, const i64 *labels, const A *posterior, const A *share, const A *dloss, T *doutputs,
                       i64 tokens, i64 experts, i64 width) {
    for (i64 i = warp_index(); i < tokens * experts; i += warp_count()) {
        i64 label = legal(labels[i / experts], width);
        const T *x = outputs + i * width;
        Softmax<A> classes = softmax_of<A>(width, [&](i64 c) { return (A)widen(x[c]); });
        A scale = *share * *dloss * posterior[i];
        for (i64 c = lane(); c < width; c += 32) {
            doutputs[i * width + c] = narrow<T>(label < 0 ? (A)0 : scale * (classes.at(widen(x[c])) - (c == label ? (A)1 : (A)0)));
        }
    }
}
