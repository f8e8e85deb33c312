#include "../gates/order.cuh"

// The chance that an expert is chosen again if its own noise is drawn anew.  A row has `chosen` experts in order [rows, columns], the
// descending best; with groups row r is group r % groups of its token, and counts as often as member[r] says.

struct Thresholds {
    i64 kth, next;            // of whom: they may be the same expert only in an order that was given
};

__device__ inline Thresholds thresholds(const i64 *order, i64 k, i64 experts) { return {legal(order[k - 1], experts), legal(order[k], experts)}; }

__device__ inline bool is_chosen(const i64 *order, i64 k, i64 e) {
    for (i64 j = 0; j < k; j++) {
        if (order[j] == e) return true;
    }
    return false;
}

__device__ inline A standing(const T *clean, const T *sigma, const T *noisy, Thresholds limits, bool chosen, i64 e) {
    i64 whose = chosen ? limits.next : limits.kth;
    return ((A)widen(clean[e]) - (whose < 0 ? (A)0 : (A)widen(noisy[whose]))) / (A)widen(sigma[e]);
}

KERNEL best_first(const T *noisy, i64 *order, i64 rows, i64 experts, i64 columns) {
    for (i64 r = warp_index(); r < rows; r += warp_count()) {
        Candidate best = EVERYBODY_LEFT;
        for (i64 j = 0; j < columns; j++) {
            best = next_best(best, experts, [&](i64 e) { return order_key(noisy[r * experts + e]); });
            if (lane() == 0) order[r * columns + j] = best.index;
        }
    }
}

KERNEL chances(const T *clean, const T *sigma, const T *noisy, const i64 *order, const A *member, A *p,
               i64 rows, i64 experts, i64 columns, i64 k) {
    for (i64 r = warp_index(); r < rows; r += warp_count()) {
        i64 at = r * experts;
        for (i64 e = lane(); e < experts; e += 32) {
            A chance = 1;
            if (k < experts) {
                const i64 *own = order + r * columns;
                A z = standing(clean + at, sigma + at, noisy + at, thresholds(own, k, experts), is_chosen(own, k, e), e);
                chance = (A)0.5 * erfc(z * (A)-0.7071067811865476);
            }
            p[at + e] = member ? member[r] * chance : chance;
        }
    }
}

// dload [groups, experts].
KERNEL chances_backward(const T *clean, const T *sigma, const T *noisy, const i64 *order, const A *member, const A *dload,
                        T *dclean, T *dsigma, T *dnoisy, i64 rows, i64 experts, i64 columns, i64 k, i64 groups) {
    for (i64 r = warp_index(); r < rows; r += warp_count()) {
        i64 at = r * experts;
        const i64 *own = order + r * columns;
        Thresholds limits = {-1, -1};
        if (k < experts) limits = thresholds(own, k, experts);
        A to_kth = 0, to_next = 0;
        for (i64 e = lane(); e < experts; e += 32) {
            A dc = 0, ds = 0;
            if (k < experts) {
                bool chosen = is_chosen(own, k, e);
                A z = standing(clean + at, sigma + at, noisy + at, limits, chosen, e), d = dload[r % groups * experts + e];
                dc = exp((A)-0.5 * (z * z)) * (A)0.3989422804014327 * (member ? member[r] * d : d) / (A)widen(sigma[at + e]);
                ds = -z * dc;
                (chosen ? to_next : to_kth) += dc;
            }
            dclean[at + e] = narrow<T>(dc);
            dsigma[at + e] = narrow<T>(ds);
        }
        to_kth = warp_sum(to_kth);
        to_next = warp_sum(to_next);
        for (i64 e = lane(); e < experts; e += 32) {
            A d = 0;
            if (e == limits.kth) d -= to_kth;
            if (e == limits.next) d -= to_next;
            dnoisy[at + e] = narrow<T>(d);
        }
    }
}
