// Selection in the normative order, by one block: digit after digit of the keys.
#pragma once

// Keys as unsigned numbers of as many bits as a V has.
template <class V> struct Digits;
template <> struct Digits<f32> {
    static constexpr int TOP = 24;
    __device__ static u64 of(i64 key) { return (u64)((key == TOP_KEY ? 0x7fffffffLL : key) + 0x80000000LL); }
    __device__ static f32 value(u64 digits) {
        i64 key = (i64)digits - 0x80000000LL;
        if (key == 0x7fffffffLL) return not_a_number<f32>();
        return key < 0 ? -__int_as_float((int)-key) : __int_as_float((int)key);
    }
};
template <> struct Digits<f64> {
    static constexpr int TOP = 56;
    __device__ static u64 of(i64 key) { return (u64)key + 0x8000000000000000ULL; }
    __device__ static f64 value(u64 digits) {
        i64 key = (i64)(digits - 0x8000000000000000ULL);
        if (key == TOP_KEY) return not_a_number<f64>();
        return key < 0 ? -__longlong_as_double(-key) : __longlong_as_double(key);
    }
};

struct Ranked {
    u64 digits;
    i64 above;                                    // how many are larger
};

// What has this rank (0: the largest) among key(0) .. key(count - 1); all threads of the block must call.
template <class V, class Key> __device__ inline Ranked find_rank(i64 count, i64 rank, Key key) {
    __shared__ i64 found[256];
    Ranked at = {0, 0};
    u64 known = 0;
    for (int shift = Digits<V>::TOP; shift >= 0; shift -= 8) {
        __syncthreads();                          // nobody still reads the counts of the digit before
        for (int d = threadIdx.x; d < 256; d += blockDim.x) found[d] = 0;
        __syncthreads();
        for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
            u64 digits = Digits<V>::of(key(i));
            if ((digits & known) == at.digits) count_up(found + (digits >> shift & 255));
        }
        __syncthreads();
        u64 digit = 255;
        while (digit > 0 && at.above + found[digit] <= rank) at.above += found[digit--];
        at.digits |= digit << shift;
        known |= 255ULL << shift;
    }
    return at;
}
