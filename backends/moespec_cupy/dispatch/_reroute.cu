// No Token Left Behind.  One block a group: tokens order[first] .. order[stop - 1], or all of them where there are no groups.
// In a round every thread serves experts of its own, in the order of the assignments; then every warp sends on tokens of its own.

struct Group {
    const i64 *order;
    i64 first, stop, choices, experts;

    __device__ i64 token(i64 at) const { return order ? order[at] : at; }
};

// A token turns to the next expert that it has not asked; a lane alone reads and writes what is said of its experts.
__device__ inline i64 ask_next(const T *scores, bool *asked, i64 experts) {
    Candidate best = {0, -1};
    for (i64 e = lane(); e < experts; e += 32) {
        Candidate c = {order_key(scores[e]), e};
        if (!asked[e] && before(c, best)) best = c;
    }
    best = warp_first(best);
    if (best.index >= 0 && best.index % 32 == lane()) asked[best.index] = true;
    return best.index;
}

__device__ inline void begin(Group g, const i64 *ids, i64 *asking, i64 *kept, bool *asked) {
    for (i64 at = g.first + threadIdx.x / 32; at < g.stop; at += blockDim.x / 32) {
        for (i64 i = g.token(at) * g.choices, end = i + g.choices; i < end; i++) {
            i64 e = legal(ids[i], g.experts);
            if (e >= 0 && e % 32 == lane()) asked[g.token(at) * g.experts + e] = true;
            if (lane() == 0) {
                asking[i] = e;
                kept[i] = -1;
            }
        }
    }
}

__device__ inline void serve(Group g, const i64 *asking, i64 *kept, i64 *room) {
    for (i64 e = threadIdx.x; e < g.experts; e += blockDim.x) {
        i64 left = room[e];
        for (i64 j = 0; j < g.choices && left > 0; j++) {
            for (i64 at = g.first; at < g.stop && left > 0; at++) {
                i64 i = g.token(at) * g.choices + j;
                if (asking[i] != e || kept[i] >= 0) continue;
                kept[i] = e;
                left--;
            }
        }
        room[e] = left;
    }
}

// How many still ask, counted by the warps' first lanes.
__device__ inline i64 send_on(Group g, i64 *asking, const i64 *kept, const T *scores, bool *asked) {
    i64 left = 0;
    for (i64 at = g.first + threadIdx.x / 32; at < g.stop; at += blockDim.x / 32) {
        i64 t = g.token(at);
        for (i64 i = t * g.choices; i < (t + 1) * g.choices; i++) {
            bool refused = asking[i] >= 0 && kept[i] < 0;
            __syncwarp();                                    // all lanes have read what the first one writes
            i64 e = refused ? ask_next(scores + t * g.experts, asked + t * g.experts, g.experts) : -1;
            if (lane() == 0) asking[i] = e;
            left += lane() == 0 && e >= 0;
        }
    }
    return left;
}

// asked [tokens, experts]: False before; room [blocks, experts].
KERNEL reroute(const i64 *ids, const T *scores, const i64 *group, const i64 *order, i64 *asking, i64 *kept, bool *asked, i64 *room,
               i64 tokens, i64 choices, i64 experts, i64 capacity) {
    room += blockIdx.x * experts;
    for (i64 first = blockIdx.x; first < tokens; first += gridDim.x) {
        if (order && order[first] < 0) continue;             // a group that is none
        if (first > 0 && (!order || group[order[first]] == group[order[first - 1]])) continue;
        i64 stop = order ? first + 1 : tokens;
        while (stop < tokens && order[stop] >= 0 && group[order[stop]] == group[order[first]]) stop++;
        Group g = {order, first, stop, choices, experts};
        for (i64 e = threadIdx.x; e < experts; e += blockDim.x) room[e] = capacity;
        begin(g, ids, asking, kept, asked);
        i64 left = 1;
        while (left > 0) {
            __syncthreads();
            serve(g, asking, kept, room);
            __syncthreads();
            left = block_sum(send_on(g, asking, kept, scores, asked));
        }
    }
}
