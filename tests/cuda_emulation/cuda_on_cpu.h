// CUDA C on the CPU, for tests: every thread of a block is a fiber, blocks run one after another, threads forwards or backwards.
//
// It shows that indices, masks, offsets and reductions are right and that barriers are reached by all; it knows no memory model, no
// races between warps and no tensor cores.  As with CuPy's compiler option -ftz=true subnormals are flushed (on x86).
#pragma once
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <math.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

namespace emulation {

struct Dim {
    unsigned x, y, z;
};

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    char *stack = nullptr;
    bool begun = false, done = false;
    unsigned exchanges = 0;
    Dim thread;
};

constexpr size_t STACK = 1 << 16;
static std::vector<Fiber *> fibers;
static std::vector<Barrier> warps;
static std::vector<uint64_t> staged;
static Barrier block;
static jmp_buf scheduler;
static Fiber *running;
static bool moved;
static std::function<void()> body;
static Dim grid_dim, block_dim, block_at;

__attribute__((noinline)) static void leave() {
    if (_setjmp(running->at) == 0) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        body();
        running->done = moved = true;
        leave();
    }
}

__attribute__((noinline)) static void resume(Fiber *fiber) {
    running = fiber;
    if (_setjmp(scheduler) != 0) return;
    if (fiber->begun) _longjmp(fiber->at, 1);
    fiber->begun = true;
    setcontext(&fiber->start);
}

static void wait(Barrier &barrier, unsigned members) {
    unsigned generation = barrier.generation;
    moved = true;
    if (++barrier.arrived == members) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    while (barrier.generation == generation) leave();
}

static unsigned me() { return running->thread.x; }
static unsigned warp_members() {
    unsigned first = me() / 32 * 32, left = block_dim.x - first;
    return left < 32 ? left : 32;
}

// The value of another lane of the warp; one's own where there is no such lane.
template <class V> V exchange(V mine, unsigned lane) {
    static_assert(sizeof(V) <= 8, "shuffles move at most 8 bytes");
    uint64_t *side = staged.data() + running->exchanges++ % 2 * block_dim.x;      // who stages again on it has waited on the other
    std::memcpy(side + me(), &mine, sizeof(V));
    wait(warps[me() / 32], warp_members());
    V found = mine;
    if (lane < warp_members()) std::memcpy(&found, side + me() / 32 * 32 + lane, sizeof(V));
    return found;
}

static void prepare(unsigned threads) {
    while (fibers.size() < threads) {
        Fiber *fiber = new Fiber;
        fiber->stack = (char *)std::malloc(STACK);
        getcontext(&fiber->start);
        fiber->start.uc_stack.ss_sp = fiber->stack;
        fiber->start.uc_stack.ss_size = STACK;
        fiber->start.uc_link = nullptr;
        makecontext(&fiber->start, live, 0);
        fibers.push_back(fiber);
    }
    warps.assign((threads + 31) / 32, Barrier());
    staged.assign(2 * threads, 0);
    block = Barrier();
}

// 0, or 1 if some threads wait at a barrier that the others do not reach.
static int run_block(unsigned threads, bool backwards) {
    for (unsigned i = 0; i < threads; i++) {
        fibers[i]->done = false;
        fibers[i]->exchanges = 0;
        fibers[i]->thread = {i, 0, 0};
    }
    bool left = true;
    while (left) {
        left = moved = false;
        for (unsigned i = 0; i < threads; i++) {
            Fiber *fiber = fibers[backwards ? threads - 1 - i : i];
            if (fiber->done) continue;
            resume(fiber);
            left = left || !fiber->done;
        }
        if (left && !moved) return 1;
    }
    return 0;
}

template <class... P, size_t... I> void call(void (*kernel)(P...), void **args, std::index_sequence<I...>) {
    kernel(*(typename std::remove_const<P>::type *)args[I]...);
}

template <class... P> int launch(void (*kernel)(P...), void **args, unsigned blocks, unsigned threads, int backwards) {
    prepare(threads);
    grid_dim = {blocks, 1, 1};
    block_dim = {threads, 1, 1};
    body = [=] { call(kernel, args, std::index_sequence_for<P...>()); };
#ifdef __SSE2__
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);
#endif
    int failed = 0;
    for (unsigned b = 0; b < blocks && !failed; b++) {
        block_at = {backwards ? blocks - 1 - b : b, 0, 0};
        failed = run_block(threads, backwards);
    }
#ifdef __SSE2__
    _mm_setcsr(mode);
#endif
    return failed;
}

}  // namespace emulation

#define threadIdx (emulation::running->thread)
#define blockIdx (emulation::block_at)
#define blockDim (emulation::block_dim)
#define gridDim (emulation::grid_dim)

static inline void __syncthreads() { emulation::wait(emulation::block, emulation::block_dim.x); }
static inline void __syncwarp(unsigned = ~0u) { emulation::wait(emulation::warps[emulation::me() / 32], emulation::warp_members()); }
template <class V> V __shfl_sync(unsigned, V x, int from) { return emulation::exchange(x, from & 31); }
template <class V> V __shfl_xor_sync(unsigned, V x, int mask) { return emulation::exchange(x, (emulation::me() ^ mask) & 31); }
template <class V> V __shfl_up_sync(unsigned, V x, unsigned by) {
    unsigned lane = emulation::me() & 31;
    return emulation::exchange(x, lane < by ? lane : lane - by);
}
template <class V> V __shfl_down_sync(unsigned, V x, unsigned by) {
    unsigned lane = emulation::me() & 31;
    return emulation::exchange(x, lane + by > 31 ? lane : lane + by);
}
static inline unsigned __ballot_sync(unsigned, int condition) {
    unsigned found = 0;
    for (unsigned from = 0; from < 32; from++) {
        int other = emulation::exchange(from < emulation::warp_members() ? condition : 0, from);
        found |= (other && from < emulation::warp_members() ? 1u : 0u) << from;
    }
    return found;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }

// Integers only: a sum of floating numbers in the order of arrival would not repeat.
template <class V> V atomicAdd(V *at, typename std::enable_if<std::is_integral<V>::value, V>::type x) {
    V before = *at;
    *at += x;
    return before;
}
template <class V> V atomicMin(V *at, typename std::enable_if<std::is_integral<V>::value, V>::type x) {
    V before = *at;
    *at = x < before ? x : before;
    return before;
}
template <class V> V atomicMax(V *at, typename std::enable_if<std::is_integral<V>::value, V>::type x) {
    V before = *at;
    *at = x > before ? x : before;
    return before;
}

template <class To, class From> static inline To same_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "the same size");
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
