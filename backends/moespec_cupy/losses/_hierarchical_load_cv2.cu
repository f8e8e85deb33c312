// member [tokens, groups]: 1 where a token was sent to the group.
KERNEL members(const i64 *ids, A *member, i64 tokens, i64 choices, i64 groups) {
    for (i64 i = thread_index(); i < tokens * groups; i += thread_count()) {
        A found = 0;
        for (i64 j = 0; j < choices; j++) {
            if (ids[i / groups * choices + j] == i % groups) found = 1;
        }
        member[i] = found;
    }
}

// both [groups, each] = primary * (secondary / tokens); nobody counts as one token.
KERNEL both_loads(const A *primary, const A *secondary, const A *tokens, A *both, i64 n, i64 each) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        i64 g = i / each;
        both[i] = primary[g] * (secondary[i] / (tokens[g] > 1 ? tokens[g] : (A)1));
    }
}

KERNEL both_loads_backward(const A *primary, const A *secondary, const A *tokens, const A *dboth, A *dprimary, A *dsecondary,
                           i64 groups, i64 each) {
    for (i64 g = warp_index(); g < groups; g += warp_count()) {
        A count = tokens[g] > 1 ? tokens[g] : (A)1, sum = 0;
        for (i64 i = g * each + lane(); i < (g + 1) * each; i += 32) {
            sum += dboth[i] * (secondary[i] / count);
            dsecondary[i] = dboth[i] * (primary[g] / count);
        }
        sum = warp_sum(sum);
        if (lane() == 0) dprimary[g] = sum;
    }
}
