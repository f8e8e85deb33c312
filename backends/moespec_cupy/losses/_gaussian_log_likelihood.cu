#include "../columns.cuh"

constexpr f64 LOG_2_PI = 1.8378770664093453;

// squared, evidence [tokens, experts]; logs [experts] of the precisions.
KERNEL gaussian_evidence(const A *squared, const T *logs, A *evidence, i64 n, i64 experts, i64 width) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        A log = widen(logs[i % experts]);
        evidence[i] = (A)0.5 * (A)width * (log - (A)LOG_2_PI) - (A)0.5 * (exp(log) * squared[i]);
    }
}

KERNEL gaussian_evidence_to_outputs(const T *outputs, const T *target, const T *logs, const A *devidence, T *doutputs,
                                    i64 n, i64 experts, i64 width) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 row = i / width;
        A error = (A)widen(target[row / experts * width + i % width]) - (A)widen(outputs[i]);
        doutputs[i] = narrow<T>(devidence[row] * exp((A)widen(logs[row % experts])) * error);
    }
}

KERNEL gaussian_evidence_to_precisions(const A *squared, const T *logs, const A *devidence, T *dlogs, i64 tokens, i64 experts, i64 width) {
    column_sums<A>(tokens, experts, [&](i64 t, i64 e) {
        return devidence[t * experts + e] * ((A)width - exp((A)widen(logs[e])) * squared[t * experts + e]);
    }, [&](i64 e, A sum) { dlogs[e] = narrow<T>((A)0.5 * sum); });
}
