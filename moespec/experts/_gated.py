"""What gated experts are tested on: the published forms, inputs, wrong attributes, and their definition written out once more."""

import numpy as np

from moespec import corpus
from moespec.experts import _dense as dense
from moespec.experts._activations import ACTIVATIONS
from moespec.experts._gating import Gating
from moespec.experts._groups import LAYOUTS, layout
from moespec.op import Case

# The published forms, with limits and caps that draws of size 1 reach.
VARIANTS: dict[str, dict] = {
    "limited": {"limit": 0.75},                                                          # DeepSeek-V4
    "limited_after": {"limit": 0.5, "limit_at": "post"},                                 # Step 3.7
    "oss": {"limit": 1.25, "alpha": 1.702, "up_offset": 1.0},                            # gpt-oss, MiniMax-M3
    "capped": {"cap_gate": 0.5, "cap_up": 1.5},                                          # Inkling 2
    "geglu_limited": {"activation": "gelu", "limit": 0.5},
    "everything": {"limit": 0.75, "limit_at": "post", "alpha": 0.5, "up_offset": -0.5, "cap_gate": 2.0, "cap_up": 1.0},
}
# The same on integers, where every operation is exact and many values lie on the limit.
EXACT: dict[str, dict] = {
    "limited_relu": {"activation": "relu", "limit": 2.0},
    "limited_identity_offset": {"activation": "identity", "limit": 3.0, "up_offset": 1.0},
    "limited_relu2_after": {"activation": "relu2", "limit": 4.0, "limit_at": "post"},
}


def draw(rng, numbers, sizes, dead=0, D=3, F=4, **more):
    """Rows, offsets and weights of gated experts, all drawn by `numbers`."""
    offsets, n = layout(sizes, dead)
    E = len(sizes)
    return {"rows": numbers(rng, n, D), "offsets": offsets, "w_gate": numbers(rng, E, D, F), "w_up": numbers(rng, E, D, F),
            "w_down": numbers(rng, E, F, D), **more}


def cases(rng):
    for name, sizes, dead, tags in LAYOUTS:
        yield Case(name, draw(rng, corpus.normal, sizes, dead), {}, tags)
        yield Case(f"{name}_integers", draw(rng, corpus.integers, sizes, dead), {"activation": "relu"}, tags | {"exact", "kink"})
    for activation in ACTIVATIONS:
        yield Case(activation, draw(rng, corpus.normal, (2, 0, 3), 1), {"activation": activation})
    keep = (rng.random((6, 4)) < 0.5) * 2.0
    for activation in ("relu2", "identity"):
        yield Case(f"integers_{activation}", draw(rng, corpus.integers, (2, 1, 3), D=2, dropout=keep), {"activation": activation},
                   frozenset({"exact", "kink"}))
    yield Case("dropout", draw(rng, corpus.normal, (2, 0, 3), 1, dropout=keep / 1.5))
    yield Case("odd_sizes", draw(rng, corpus.normal, (17, 0, 33), 2, D=19, F=21))
    yield Case("saturated", draw(rng, lambda *a: 3 * corpus.normal(*a), (2, 0, 3), D=4))
    stale = draw(rng, corpus.normal, (2, 1), 2)
    stale["rows"][3:] = np.nan
    yield Case("nan_dead_rows", stale, {}, frozenset({"nan"}))
    yield from _shaped(rng)
    yield from _exact_sums(rng)


def biases(rng, numbers, E=3, D=3, F=4):
    """The three biases of gated experts, drawn by `numbers`."""
    return {"b_gate": numbers(rng, E, F), "b_up": numbers(rng, E, F), "b_down": numbers(rng, E, D)}


def _shaped(rng):
    """Biases, limits, caps: one by one and together, and on integers that lie on the limit."""
    sizes, kink = (4, 0, 3), frozenset({"exact", "kink"})
    yield Case("biases", draw(rng, corpus.normal, sizes, 2, **biases(rng, corpus.normal)))
    yield Case("biases_integers", draw(rng, corpus.integers, sizes, 2, **biases(rng, corpus.integers)), {"activation": "relu"}, kink)
    yield Case("only_b_down", draw(rng, corpus.normal, sizes, 2, b_down=corpus.normal(rng, 3, 3)))
    for name, attrs in VARIANTS.items():
        yield Case(name, draw(rng, corpus.normal, sizes, 2), attrs)
        yield Case(f"{name}_biases", draw(rng, corpus.normal, sizes, dropout=corpus.normal(rng, 7, 4), **biases(rng, corpus.normal)), attrs)
    for name, attrs in EXACT.items():
        yield Case(name, draw(rng, corpus.integers, sizes, 1, **biases(rng, corpus.integers)), attrs, kink)
    spoilt = draw(rng, corpus.normal, sizes)
    spoilt["rows"][1] = np.nan
    yield Case("nan_is_not_limited", spoilt, VARIANTS["oss"], frozenset({"nan"}))


def _exact_sums(rng):
    """Sums over D, F and tokens that a narrow accumulator or operand gets wrong; ballast is +4096 first, -4096 last."""
    def case(name, inputs, activation="relu"):
        return Case(name, inputs, {"activation": activation}, frozenset({"exact", "kink"}))

    features = draw(rng, corpus.integers, (2, 0, 3), D=6)
    features["rows"][:, [0, -1]] = 64
    for w in (features["w_gate"], features["w_up"]):
        w[:, 0], w[:, -1] = 64, -64
    yield case("ballast_features", features)
    hidden = draw(rng, corpus.integers, (1, 0, 2), F=18)
    hidden["rows"][:, 0] = 8
    for w in (hidden["w_gate"], hidden["w_up"]):                   # the outer two hidden units are 8 * 8, and see nothing else
        w[:, 0], w[:, :, [0, -1]] = 0, 0
        w[:, 0, [0, -1]] = 1
    hidden["w_down"][:, 0], hidden["w_down"][:, -1] = 64, -64
    yield case("ballast_hidden", hidden)
    twelve = draw(rng, lambda r, *shape: corpus.integers(r, *shape, high=1), (3, 0, 2), D=2, F=3)
    yield case("twelve_bits", {**twelve, "w_down": 2 * rng.integers(1024, 2048, (3, 3, 2)) + 1.0})     # odd: 12 significant bits
    yield case("long_group", draw(rng, corpus.integers, (300, 7), D=2, F=3), "identity")


def gating_errors(name, right):
    """The wrong attributes that every op with a gated hidden layer refuses."""
    def case(what, pattern, **attrs):
        return Case(what, right, attrs), ValueError, pattern

    return (
        case("unknown_activation", rf"{name}: activation='swish' is not one of identity, relu, relu2, silu, gelu, gelu_tanh \(\w+ has shape",
             activation="swish"),
        case("limit_zero", rf"{name}: limit=0.0 must be above 0 \(\w+ has shape", limit=0.0),
        case("limit_nan", rf"{name}: limit=nan must be above 0", limit=float("nan")),
        case("limit_elsewhere", rf"{name}: limit_at='after' is not one of pre, post", limit=1.0, limit_at="after"),
        case("alpha_zero", rf"{name}: alpha=0.0 must be above 0", alpha=0.0),
        case("alpha_of_gelu", rf"{name}: alpha=1.702 belongs to the activation silu, got 'gelu'", alpha=1.702, activation="gelu"),
        case("cap_negative", rf"{name}: cap_up=-1.0 must be above 0", cap_up=-1.0),
        case("cap_of_relu", rf"{name}: cap_gate=4.0 belongs to the activation silu, got 'relu'", cap_gate=4.0, activation="relu"),
    )


def gating_of(run):
    """The Gating of a run."""
    return Gating(**{n: v for n, v in run.attrs.items() if n in Gating._fields})


def unit(a):
    """(g, u) -> h in float64, the definition written out once more, without a branch on what is absent."""
    top = np.inf if a.limit is None else a.limit
    before, after = (top, np.inf) if a.limit_at == "pre" else (np.inf, top)

    def cap(x, c):
        return x if c is None else c - 2 * c / (1 + np.exp(2 * x / c))

    def hidden(g, u):
        g, u = np.where(g > before, before, g), np.where(np.abs(u) > top, np.sign(u) * top, u)
        s = cap(g, a.cap_gate) / (1 + np.exp(-a.alpha * g)) if a.activation == "silu" else ACTIVATIONS[a.activation].value(g)
        return np.where(s > after, after, s) * (cap(u, a.cap_up) + a.up_offset)
    return hidden


def above(a):
    """(|g|, |u|) -> a bound of |h| that moves at least as fast."""
    return lambda g, u: dense.bounding(a.activation)(g) * (u + abs(a.up_offset))
