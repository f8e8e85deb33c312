// Back to where a token's choices were taken from.
#pragma once

// store(e, sum) for every expert e of a row, with the sum of value(j) over the choices j of it in ascending order.  id(j) is -1 for
// nobody.  By one warp; what other lanes have stored there before needs a barrier.
template <class V, class Id, class Value, class Store> __device__ inline void scatter_row(i64 k, Id id, Value value, Store store) {
    for (i64 j = lane(); j < k; j += 32) {
        i64 e = id(j);
        bool first = e >= 0;
        for (i64 i = 0; first && i < j; i++) first = id(i) != e;
        if (!first) continue;
        V sum = 0;
        for (i64 i = j; i < k; i++)
            if (id(i) == e) sum += value(i);
        store(e, sum);
    }
}

// A whole row: 0 where nobody chose.
template <class V, class S, class Id, class Value> __device__ inline void untake_row(S *row, i64 experts, i64 k, Id id, Value value) {
    for (i64 e = lane(); e < experts; e += 32) row[e] = narrow<S>((V)0);
    __syncwarp();
    scatter_row<V>(k, id, value, [&](i64 e, V sum) { row[e] = narrow<S>(sum); });
}
