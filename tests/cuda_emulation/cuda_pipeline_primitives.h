// Asynchronous copies as the CUDA header of this name has them: nothing is there before it has been waited for.
#pragma once
#include "cuda_on_cpu.h"
#include <deque>

namespace emulation {

struct Copy {
    void *to;
    const void *from;
    size_t size;
};
static std::deque<std::vector<Copy>> batches[1024];           // of every thread; the last one is still open

static std::deque<std::vector<Copy>> &my_batches() {
    std::deque<std::vector<Copy>> &mine = batches[me()];
    if (mine.empty()) mine.emplace_back();
    return mine;
}

}  // namespace emulation

static inline void __pipeline_memcpy_async(void *to, const void *from, size_t size) {
    if ((size != 4 && size != 8 && size != 16) || (uintptr_t)to % size || (uintptr_t)from % size) abort();     // what the hardware asks for
    emulation::my_batches().back().push_back({to, from, size});
}
static inline void __pipeline_commit() { emulation::my_batches().emplace_back(); }
static inline void __pipeline_wait_prior(size_t unfinished) {
    auto &mine = emulation::my_batches();
    for (; mine.size() > unfinished + 1; mine.pop_front())
        for (const emulation::Copy &copy : mine.front()) std::memcpy(copy.to, copy.from, copy.size);
}
