// Walking the entries that name a row, in ascending order.
#pragma once

// each(i) for every entry i with row[i] == n.
template <class Each> __device__ inline void entries_of(i64 n, const i64 *row, const i64 *first, const i64 *times, Each each) {
    for (i64 i = first[n], left = times[n]; left > 0; i++) {
        if (row[i] != n) continue;
        each(i);
        left--;
    }
}
