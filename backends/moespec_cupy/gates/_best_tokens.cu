#include "members.cuh"
#include "rank.cuh"

// The `most` best tokens of a group for an expert, ties to the earlier token.  Who belongs to no group is left alone.
KERNEL best_tokens(const T *scores, const i64 *order, const i64 *starts, i64 groups, i64 most, i64 *ids, i64 tokens, i64 experts) {
    for (i64 b = blockIdx.x; b < groups * experts; b += gridDim.x) {
        i64 e = b % experts;
        Members own = members_of(order, starts, b / experts, tokens);
        auto key = [&](i64 i) { return order_key(scores[own.token(i) * experts + e]); };
        i64 wanted = most < own.count ? most : own.count, tied = 0;
        if (wanted == 0) continue;                           // the same in all threads
        Ranked last = find_rank<A>(own.count, wanted - 1, key);
        for (i64 first = 0; first < own.count; first += blockDim.x) {
            i64 i = first + threadIdx.x, here;
            u64 digits = i < own.count ? Digits<A>::of(key(i)) : 0;
            bool ties = i < own.count && digits == last.digits;
            i64 earlier = tied + block_before(ties, here);
            if (i < own.count && (digits > last.digits || (ties && earlier < wanted - last.above))) ids[own.token(i) * experts + e] = e;
            tied += here;
        }
    }
}

KERNEL under_mask(const T *values, const i64 *ids, T *masked, i64 entries) {
    for (i64 i = thread_index(); i < entries; i += thread_count()) masked[i] = ids[i] >= 0 ? values[i] : narrow<T>((A)0);
}
