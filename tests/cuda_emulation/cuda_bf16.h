// bfloat16 as the CUDA header of this name has it: storage, and conversions that round to the nearest even.
#pragma once
#include "cuda_on_cpu.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 x) { return __int_as_float((int)((uint32_t)x.bits << 16)); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits = (uint32_t)__float_as_int(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {(uint16_t)0x7fff};
    return {(uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __double2bfloat16(double x) {
    float f = (float)x;                                    // made odd where it is not exact: the second rounding is then the only one
    uint32_t bits = (uint32_t)__float_as_int(f);
    if ((double)f != x && x == x && !(bits & 1) && (bits & 0x7f800000u) != 0x7f800000u)
        bits += (fabs((double)f) < fabs(x)) ? 1u : 0xffffffffu;
    return __float2bfloat16_rn(__int_as_float((int)bits));
}
