// The members of one group of tokens; without a list of groups all tokens are one.
#pragma once

struct Members {
    const i64 *order;
    i64 first, count;
    __device__ i64 token(i64 i) const { return order ? order[first + i] : i; }
};

__device__ inline Members members_of(const i64 *order, const i64 *starts, i64 group, i64 tokens) {
    i64 first = starts ? starts[group] : 0;
    return {order, first, (starts ? starts[group + 1] : tokens) - first};
}
