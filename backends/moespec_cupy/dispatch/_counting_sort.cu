// A stable counting sort: chunks are counted, the counts are added up bucket by bucket, and every entry finds its rank in its chunk.
// With many buckets it is done in passes, by the lower bits of the keys first.

constexpr int TILE = 256;

// One pass: entries in the order that the pass before left (none: as they are), sorted by `mask` bits of the key from `shift` on.
struct Pass {
    const i64 *keys, *before;
    i64 entries, buckets, chunks, shift, mask;

    __device__ i64 start(i64 chunk) const { return chunk * entries / chunks; }
    __device__ i64 entry(i64 i) const { return before ? before[i] : i; }
    __device__ i64 digit(i64 entry) const {
        i64 key = entry < 0 ? -1 : legal(keys[entry], buckets);
        return key < 0 ? -1 : key >> shift & mask;
    }
};

// table [chunks, radix], zeros before: how often each digit occurs in a chunk.
KERNEL count_keys(const i64 *keys, const i64 *before, i64 *table, i64 entries, i64 buckets, i64 chunks, i64 shift, i64 mask, i64 radix) {
    Pass p = {keys, before, entries, buckets, chunks, shift, mask};
    for (i64 c = blockIdx.x; c < chunks; c += gridDim.x) {
        for (i64 i = p.start(c) + threadIdx.x; i < p.start(c + 1); i += blockDim.x) {
            i64 digit = p.digit(p.entry(i));
            if (digit >= 0) count_up(table + c * radix + digit);
        }
    }
}

// Counts become sums over the chunks before; totals [radix].
KERNEL sum_chunks(i64 *table, i64 *totals, i64 radix, i64 chunks) {
    for (i64 b = thread_index(); b < radix; b += thread_count()) {
        i64 total = 0;
        for (i64 c = 0; c < chunks; c++) {
            i64 here = table[c * radix + b];
            table[c * radix + b] = total;
            total += here;
        }
        totals[b] = total;
    }
}

// offsets [buckets + 1]: sums over the buckets before.  One block; a thread takes neighbours.
KERNEL sum_buckets(const i64 *totals, i64 *offsets, i64 buckets) {
    i64 each = (buckets + blockDim.x - 1) / blockDim.x, first = threadIdx.x * each, stop = first + each, own = 0, all;
    stop = stop < buckets ? stop : buckets;
    for (i64 b = first; b < stop; b++) own += totals[b];
    i64 before = block_before(own, all);
    for (i64 b = first; b < stop; b++) {
        offsets[b] = before;
        before += totals[b];
    }
    if (threadIdx.x == 0) offsets[buckets] = all;
}

// order [length]: place -> entry; place [entries], or none: entry -> place, -1 for a key that is nobody's.  Blocks of TILE threads.
KERNEL place_keys(const i64 *keys, const i64 *before, i64 *table, const i64 *offsets, i64 *order, i64 *place,
                  i64 entries, i64 buckets, i64 chunks, i64 shift, i64 mask, i64 radix, i64 length) {
    __shared__ i64 tile[TILE];
    Pass p = {keys, before, entries, buckets, chunks, shift, mask};
    for (i64 c = blockIdx.x; c < chunks; c += gridDim.x) {
        i64 *used = table + c * radix, stop = p.start(c + 1);
        for (i64 first = p.start(c); first < stop; first += TILE) {
            i64 i = first + threadIdx.x, entry = i < stop ? p.entry(i) : -1, digit = p.digit(entry);
            __syncthreads();                                 // the tile before is no longer read, and `used` is up to date
            tile[threadIdx.x] = digit;
            __syncthreads();
            int earlier = 0, later = 0;
            for (int j = 0; digit >= 0 && j < TILE; j++) {
                earlier += j < (int)threadIdx.x && tile[j] == digit;
                later += j > (int)threadIdx.x && tile[j] == digit;
            }
            i64 rank = digit >= 0 ? used[digit] + earlier : 0;
            __syncthreads();                                 // everybody has read `used`
            i64 at = digit >= 0 ? offsets[digit] + rank : length;
            if (digit >= 0 && later == 0) used[digit] = rank + 1;
            if (at < length) order[at] = entry;
            if (place && entry >= 0) place[entry] = at < length ? at : -1;
        }
    }
}

// offsets [buckets + 1] of sorted entries: where each bucket begins.
KERNEL find_buckets(const i64 *keys, const i64 *order, i64 *offsets, i64 buckets, i64 length) {
    for (i64 b = thread_index(); b <= buckets; b += thread_count()) {
        i64 low = 0, high = length;                          // the first place whose key is at least b; nobody is after everybody
        while (low < high) {
            i64 middle = (low + high) / 2;
            if (order[middle] >= 0 && keys[order[middle]] < b) low = middle + 1;
            else high = middle;
        }
        offsets[b] = low;
    }
}
