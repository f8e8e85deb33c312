// Ids from `first` on are constant experts: z = id - first; another id is nobody.
struct Constants {
    const T *x, *w_mix, *v;
    const A *weights;
    const i64 *ids;
    i64 choices, width, constants, first;

    __device__ i64 z(i64 i) const { return legal(ids[i] - first, constants); }
    __device__ A token(i64 t, i64 d) const { return widen(x[t * width + d]); }
    __device__ A constant(i64 z, i64 d) const { return widen(v[z * width + d]); }
    __device__ A mix(i64 z, i64 d, int c) const { return widen(w_mix[(z * width + d) * 2 + c]); }
};

// The shares of the token and of the constant, of every choice.
KERNEL constant_shares(const T *x, const i64 *ids, const T *w_mix, A *shares, i64 entries, i64 choices, i64 width, i64 constants, i64 first) {
    Constants p = {x, w_mix, nullptr, nullptr, ids, choices, width, constants, first};
    for (i64 i = warp_index(); i < entries; i += warp_count()) {
        i64 z = p.z(i), t = i / choices;
        A logit[2] = {0, 0};
        for (i64 d = lane(); z >= 0 && d < width; d += 32)
            for (int c = 0; c < 2; c++) logit[c] += p.token(t, d) * p.mix(z, d, c);
        for (int c = 0; c < 2; c++) logit[c] = warp_sum(logit[c]);
        A top = logit[1] > logit[0] ? logit[1] : logit[0];
        A part[2] = {exp(logit[0] - top), exp(logit[1] - top)};
        if (lane() < 2) shares[i * 2 + lane()] = part[lane()] / (part[0] + part[1]);
    }
}

// Added up in ascending order of choice.
KERNEL constant_mixed(const T *x, const i64 *ids, const A *weights, const T *v, const A *shares, T *y,
                      i64 tokens, i64 choices, i64 width, i64 constants, i64 first) {
    Constants p = {x, nullptr, v, weights, ids, choices, width, constants, first};
    for (i64 t = warp_index(); t < tokens; t += warp_count())
        for (i64 d = lane(); d < width; d += 32) {
            A sum = 0;
            for (i64 i = t * choices; i < (t + 1) * choices; i++) {
                i64 z = p.z(i);
                if (z >= 0) sum += weights[i] * (shares[i * 2] * p.token(t, d) + shares[i * 2 + 1] * p.constant(z, d));
            }
            y[t * width + d] = narrow<T>(sum);
        }
}

// Of every choice: the cotangents of its weight and of the two logits, dlogits [entries, 2], and its share times its weight of the constant.
KERNEL constant_to_choices(const T *x, const i64 *ids, const A *weights, const T *v, const A *shares, const T *dy,
                           A *dweights, A *dlogits, A *of_constant, i64 *place, i64 entries, i64 choices, i64 width, i64 constants, i64 first) {
    Constants p = {x, nullptr, v, weights, ids, choices, width, constants, first};
    for (i64 i = warp_index(); i < entries; i += warp_count()) {
        i64 z = p.z(i), t = i / choices;
        A w = weights[i], a0 = shares[i * 2], a1 = shares[i * 2 + 1], of_weight = 0, to_token = 0, to_constant = 0;
        for (i64 d = lane(); z >= 0 && d < width; d += 32) {
            A dout = widen(dy[t * width + d]), token = p.token(t, d), constant = p.constant(z, d);
            of_weight += (a0 * token + a1 * constant) * dout;
            to_token += token * (w * dout);
            to_constant += constant * (w * dout);
        }
        of_weight = warp_sum(of_weight);
        to_token = warp_sum(to_token);
        to_constant = warp_sum(to_constant);
        A inner = to_token * a0 + to_constant * a1;
        if (lane() > 0) continue;
        dweights[i] = of_weight;
        dlogits[i * 2] = z < 0 ? (A)0 : a0 * (to_token - inner);
        dlogits[i * 2 + 1] = z < 0 ? (A)0 : a1 * (to_constant - inner);
        of_constant[i] = z < 0 ? (A)0 : a1 * w;
        place[i] = z;
    }
}

KERNEL constant_to_tokens(const T *w_mix, const i64 *place, const A *weights, const A *shares, const A *dlogits, const T *dy, T *dx,
                          i64 tokens, i64 choices, i64 width, i64 constants) {
    Constants p = {nullptr, w_mix, nullptr, weights, place, choices, width, constants, 0};
    for (i64 t = warp_index(); t < tokens; t += warp_count())
        for (i64 d = lane(); d < width; d += 32) {
            A sum = 0, dout = widen(dy[t * width + d]);
            for (i64 i = t * choices; i < (t + 1) * choices; i++) {
                i64 z = p.z(i);
                if (z < 0) continue;
                sum += shares[i * 2] * (weights[i] * dout);
                for (int c = 0; c < 2; c++) sum += dlogits[i * 2 + c] * p.mix(z, d, c);
            }
            dx[t * width + d] = narrow<T>(sum);
        }
}

// One thread an element: over the choices of every constant expert, in ascending order.
KERNEL constant_to_mix(const T *x, const A *dlogits, const i64 *order, const i64 *offsets, T *dw_mix, i64 choices, i64 width, i64 constants) {
    for (i64 at = thread_index(); at < constants * width * 2; at += thread_count()) {
        i64 z = at / (width * 2), d = at / 2 % width;
        A sum = 0;
        for (i64 n = offsets[z]; n < offsets[z + 1]; n++) sum += (A)widen(x[order[n] / choices * width + d]) * dlogits[order[n] * 2 + at % 2];
        dw_mix[at] = narrow<T>(sum);
    }
}
