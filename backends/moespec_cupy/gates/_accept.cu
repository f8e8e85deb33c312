#include "accept.cuh"

KERNEL accept_second(const i64 *ids, const T *weights, const U *uniform, const i64 *given, i64 *kept, T *passed, i64 tokens, A times, A by) {
    for (i64 t = thread_index(); t < tokens; t += thread_count()) {
        bool second = given ? given[2 * t + 1] >= 0 : accepted((A)widen(weights[2 * t + 1]), times, by, (A)widen(uniform[t]));
        for (i64 j = 0; j < 2; j++) {
            bool keeps = ids[2 * t + j] >= 0 && (j == 0 || second);
            kept[2 * t + j] = keeps ? ids[2 * t + j] : -1;
            passed[2 * t + j] = keeps ? weights[2 * t + j] : narrow<T>((A)0);
        }
    }
}
