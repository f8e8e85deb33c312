// float16 as the CUDA header of this name has it: storage, and conversions that round to the nearest even.
#pragma once
#include "cuda_on_cpu.h"

struct __half {
    uint16_t bits;
};

static inline float __half2float(__half x) { return (float)same_bits<_Float16>(x.bits); }
static inline __half __float2half_rn(float x) { return {same_bits<uint16_t>((_Float16)x)}; }
static inline __half __double2half(double x) { return {same_bits<uint16_t>((_Float16)x)}; }
