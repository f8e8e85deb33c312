// The adjoint of taking entries by id: what entry e of a row gets, in ascending order of choice.
#pragma once

// id(j): where choice j was taken from, -1 for nowhere; value(j): its cotangent.
template <class V, class Id, class Value> __device__ inline V untaken(i64 e, i64 choices, Id id, Value value) {
    V sum = 0;
    for (i64 j = 0; j < choices; j++) {
        if (id(j) == e) sum += value(j);
    }
    return sum;
}
