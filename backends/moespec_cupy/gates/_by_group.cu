// Groups are numbered in ascending order of their ids.  order [tokens]: sorted by id; starts [tokens + 1]: where each group begins,
// and behind the last of them where it ends.  One block.
KERNEL find_groups(const i64 *group, const i64 *order, i64 *starts, i64 tokens) {
    i64 groups = 0, members = 0;
    for (i64 first = 0; first < tokens; first += blockDim.x) {
        i64 i = first + threadIdx.x, t = i < tokens ? order[i] : -1, opened, found;
        bool opens = t >= 0 && (i == 0 || group[order[i - 1]] != group[t]);
        i64 earlier = block_before(opens, opened);
        block_before(t >= 0, found);
        if (opens) starts[groups + earlier] = i;
        groups += opened;
        members += found;
    }
    for (i64 g = groups + threadIdx.x; g <= tokens; g += blockDim.x) starts[g] = members;
}
