// Balanced assignment, the largest total up to the rounding of float64: tokens enter one after the other, each along a shortest path
// of tokens that move on to another expert, the last of them to a free place (successive shortest paths).

struct Assignment {
    const T *scores;
    i64 experts, room;
    i64 *holder, *place, *load;                   // who has each of the room places of an expert, the inverse, places taken
    f64 *price;                                   // with these nobody likes another expert better than the own one
    f64 *distance;                                // of every expert from the token that enters,
    i64 *via;                                     // who would move there
    bool *done;                                   // and whether the way through it is known
    f64 least;                                    // what a score counts as that is not finite

    __device__ f64 cost(i64 t, i64 e) const {
        f64 x = (f64)widen(scores[t * experts + e]);
        return -(is_finite(x) ? x : least) - price[e];
    }

    __device__ void begin(i64 t) {
        for (i64 e = threadIdx.x; e < experts; e += blockDim.x) {
            distance[e] = cost(t, e);
            via[e] = t;
            done[e] = false;
        }
        __syncthreads();
    }

    __device__ i64 nearest() const {
        __shared__ i64 found;
        if (threadIdx.x < 32) {
            Candidate first = {0, -1};
            for (i64 e = lane(); e < experts; e += 32) {
                Candidate c = {order_key(-distance[e]), e};
                if (!done[e] && before(c, first)) first = c;
            }
            first = warp_first(first);
            if (lane() == 0) found = first.index;
        }
        __syncthreads();
        return found;
    }

    // Through a full expert: any of its tokens may go on to any other expert.  A lane an expert, the warps share the tokens.
    __device__ void extend(i64 full) {
        __shared__ f64 shortest[32][32];
        __shared__ i64 mover[32][32];
        unsigned warp = threadIdx.x / 32, warps = blockDim.x / 32;
        if (threadIdx.x == 0) done[full] = true;
        for (i64 first = 0; first < experts; first += 32) {
            i64 e = first + lane(), who = -1;
            f64 least_so_far = infinity<f64>();
            for (i64 i = warp; e < experts && i < room; i += warps) {
                i64 t = holder[full * room + i];
                f64 d = distance[full] + (cost(t, e) - cost(t, full));
                if (d < least_so_far) {
                    least_so_far = d;
                    who = t;
                }
            }
            shortest[warp][lane()] = least_so_far;
            mover[warp][lane()] = who;
            __syncthreads();
            for (unsigned w = 0; warp == 0 && e < experts && w < warps; w++) {
                if (done[e] || !(shortest[w][lane()] < distance[e])) continue;
                distance[e] = shortest[w][lane()];
                via[e] = mover[w][lane()];
            }
            __syncthreads();
        }
    }

    // Token t, and everybody on the way from it to the free place at `last`.
    __device__ void enter(i64 t, i64 last) {
        __syncthreads();                          // everybody has seen that there is a place
        for (i64 e = threadIdx.x; e < experts; e += blockDim.x) {
            if (done[e]) price[e] += distance[e] - distance[last];
        }
        if (threadIdx.x == 0) {
            i64 at = last * room + load[last]++, moved = -1;
            while (moved != t) {
                moved = via[at / room];
                i64 left = place[moved];
                holder[at] = moved;
                place[moved] = at;
                at = left;
            }
        }
        __syncthreads();
    }
};

__device__ inline f64 smallest_finite(const T *scores, i64 entries) {
    __shared__ f64 part[32];
    f64 highest = -infinity<f64>();               // of the negatives
    for (i64 i = threadIdx.x; i < entries; i += blockDim.x) {
        f64 x = -(f64)widen(scores[i]);
        if (is_finite(x) && x > highest) highest = x;
    }
    highest = warp_max(highest);
    if (lane() == 0) part[threadIdx.x / 32] = highest;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; w++) highest = part[w] > highest ? part[w] : highest;
    return is_finite(highest) ? -highest : 0.0;
}

// One block.  load and price are zeros before.
KERNEL assign(const T *scores, i64 *ids, i64 *holder, i64 *place, i64 *load, f64 *price, f64 *distance, i64 *via, bool *done,
              i64 tokens, i64 experts, i64 room) {
    Assignment a = {scores, experts, room, holder, place, load, price, distance, via, done, smallest_finite(scores, tokens * experts)};
    for (i64 t = 0; t < tokens; t++) {
        a.begin(t);
        i64 e = a.nearest();
        for (; load[e] == room; e = a.nearest()) a.extend(e);
        a.enter(t, e);
    }
    for (i64 t = threadIdx.x; t < tokens; t += blockDim.x) ids[t] = place[t] / room;
}
