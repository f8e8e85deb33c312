// A stable counting sort: chunks are counted, the counts are added up bucket by bucket, and every entry finds its rank in its chunk.

constexpr int TILE = 256;

__device__ inline i64 chunk_start(i64 chunk, i64 entries, i64 chunks) { return chunk * entries / chunks; }

// table [chunks, buckets], zeros before: how often each key occurs in a chunk.
KERNEL count_keys(const i64 *keys, i64 *table, i64 entries, i64 buckets, i64 chunks) {
    for (i64 c = blockIdx.x; c < chunks; c += gridDim.x) {
        i64 stop = chunk_start(c + 1, entries, chunks);
        for (i64 i = chunk_start(c, entries, chunks) + threadIdx.x; i < stop; i += blockDim.x) {
            i64 key = legal(keys[i], buckets);
            if (key >= 0) count_up(table + c * buckets + key);
        }
    }
}

// Counts become sums over the chunks before; totals [buckets].
KERNEL sum_chunks(i64 *table, i64 *totals, i64 buckets, i64 chunks) {
    for (i64 b = thread_index(); b < buckets; b += thread_count()) {
        i64 total = 0;
        for (i64 c = 0; c < chunks; c++) {
            i64 here = table[c * buckets + b];
            table[c * buckets + b] = total;
            total += here;
        }
        totals[b] = total;
    }
}

// offsets [buckets + 1]: sums over the buckets before.  One block.
KERNEL sum_buckets(const i64 *totals, i64 *offsets, i64 buckets) {
    i64 done = 0;
    for (i64 first = 0; first < buckets; first += blockDim.x) {
        i64 b = first + threadIdx.x, sum;
        i64 earlier = block_before(b < buckets ? totals[b] : 0, sum);
        if (b < buckets) offsets[b] = done + earlier;
        done += sum;
    }
    if (threadIdx.x == 0) offsets[buckets] = done;
}

// source [length]: place -> entry / width; place [entries]: entry -> place, -1 for a key that is nobody's.  Blocks of TILE threads.
KERNEL place_keys(const i64 *keys, i64 *table, const i64 *offsets, i64 *source, i64 *place,
                  i64 entries, i64 width, i64 buckets, i64 chunks, i64 length) {
    __shared__ i64 tile[TILE];
    for (i64 c = blockIdx.x; c < chunks; c += gridDim.x) {
        i64 *used = table + c * buckets, stop = chunk_start(c + 1, entries, chunks);
        for (i64 first = chunk_start(c, entries, chunks); first < stop; first += TILE) {
            i64 i = first + threadIdx.x, key = i < stop ? legal(keys[i], buckets) : -1;
            __syncthreads();                                 // the tile before is no longer read, and `used` is up to date
            tile[threadIdx.x] = key;
            __syncthreads();
            int earlier = 0, later = 0;
            for (int j = 0; key >= 0 && j < TILE; j++) {
                earlier += j < (int)threadIdx.x && tile[j] == key;
                later += j > (int)threadIdx.x && tile[j] == key;
            }
            i64 rank = key >= 0 ? used[key] + earlier : 0;
            __syncthreads();                                 // everybody has read `used`
            i64 at = key >= 0 ? offsets[key] + rank : length;
            if (key >= 0 && later == 0) used[key] = rank + 1;
            if (at < length) source[at] = i / width;
            if (i < stop) place[i] = at < length ? at : -1;
        }
    }
}
