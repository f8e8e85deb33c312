"""How a feed-forward layer can lie on cores (Fedus et al. 2021, section 5), and what each layout sends."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from moespec.cost import _load
from moespec.cost._compare import UNITS, active_width
from moespec.cost._ratio import sets
from moespec.cost._require import count
from moespec.cost._walk import program
from moespec.cost._wire import width
from moespec.layer._params import parameter_shapes


class Layout(NamedTuple):
    """One layout: mean bytes that a core sends per layer, forward and backward, and the formulas."""

    name: str
    forward: float
    backward: float
    formula: tuple[str, str]

    @property
    def both(self) -> float:
        """Bytes of a training step."""
        return self.forward + self.backward


def layouts(spec, d_model: int, tokens: int, cores: int, *, model: int = 1, dtype: str = "bfloat16") -> tuple[Layout, ...]:
    r"""Traffic per core of the five layouts.

    B tokens on N = n m cores, m of which share a copy of the tokens and cut the hidden units (`model`); b bytes a number; P parameters of
    the dense layer that is as wide as a token's experts together, p of one expert, r of the router; S rows in the buffers of B/n tokens (E C, or
    K B/n without a capacity); e = min(E, n) cores among which the experts are divided, every expert on n/e of them.

    ========================  ======================================  ===================================
    layout                    forward                                 backward
    ========================  ======================================  ===================================
    data                      0                                       2 P b (1 - 1/N)
    model                     2 B D b (1 - 1/N)                       the same
    model + data              2 (B/n) D b (1 - 1/m)                   the same + 2 (P/m) b (1 - 1/n)
    expert + data             2 S D b (1 - 1/e), with m = 1           the same + gradients
    expert + model + data     2 S D b (1 - 1/e) + 2 S D b (1 - 1/m)   the same + gradients
    ========================  ======================================  ===================================

    with gradients 2 r b (1 - 1/n) + 2 (E/e) (p/m) b (1 - e/n).  An all-reduce counts 2 (1 - 1/N) of its array, as `all_reduce` does.

    Parameters
    ----------
    spec : LayerSpec
        Token choice; its experts are gated or plain units.
    d_model, tokens, cores : int
        D, B and N.
    model : int
        m; it divides N.
    dtype : str
        Of everything that travels.
    """
    d_model = count("layouts", "d_model", d_model, least=1)
    n, b = _ways(spec, tokens, cores, model), width("layouts", dtype)
    whole, e = tokens // n, min(spec.experts.n, n)
    shapes = parameter_shapes(spec, d_model)
    p = sum(prod(s[1:]) for name, s in shapes.items() if name.startswith("experts."))
    r = sum(prod(s) for name, s in shapes.items() if name.startswith("router."))
    dense = _dense_parameters(spec, d_model, tokens)
    rows = _places(spec, d_model, tokens // cores), _places(spec, d_model, whole)
    activations = 2 * tokens * d_model * b * _off(cores)
    group = 2 * whole * d_model * b * _off(model)

    def gradients(n, m, e):
        return 2 * r * b * _off(n) + 2 * (spec.experts.n / e) * (p / m) * b * (1 - e / n)

    flat, split = _exchange(spec, d_model, b, rows[0], min(spec.experts.n, cores)), _exchange(spec, d_model, b, rows[1], e)
    within = 2 * rows[1] * d_model * b * _off(model)
    return (
        Layout("data", 0.0, 2 * dense * b * _off(cores), ("0", "2 P b (1 - 1/N)")),
        Layout("model", activations, activations, ("2 B D b (1 - 1/N)", "2 B D b (1 - 1/N)")),
        Layout("model + data", group, group + 2 * dense / model * b * _off(n), ("2 (B/n) D b (1 - 1/m)", "the same + 2 (P/m) b (1 - 1/n)")),
        Layout("expert + data", flat, flat + gradients(cores, 1, min(spec.experts.n, cores)), ("2 S D b (1 - 1/e)", "the same + gradients")),
        Layout("expert + model + data", split + within, split + within + gradients(n, model, e),
               ("2 S D b (1 - 1/e) + 2 S D b (1 - 1/m)", "the same + gradients")),
    )


def _off(n) -> float:
    return 1 - 1 / n


def _ways(spec, tokens, cores, model):
    """n, after everything has been found to divide."""
    n, m = count("layouts", "cores", cores, least=1), count("layouts", "model", model, least=1)
    if n % m:
        raise ValueError(f"layouts: model={m} does not divide the {n} cores")
    if count("layouts", "tokens", tokens) % n:
        raise ValueError(f"layouts: {n} cores do not divide tokens={tokens}")
    for ways in (n, n // m):
        if max(ways, spec.experts.n) % min(ways, spec.experts.n):
            raise ValueError(f"layouts: {ways} groups of cores and {spec.experts.n} experts do not divide one another")
    if spec.pool is not None or spec.experts.kind not in ("glu", "ffn"):
        raise ValueError(f"layouts: one set of gated or plain experts is wanted, got kind={spec.experts.kind!r}{' and a pool' if spec.pool else ''}")
    return n // m


def _dense_parameters(spec, d_model, tokens):
    _, into, back = UNITS[spec.experts.kind]
    return len(into + back) * d_model * active_width(spec, d_model, tokens)


def _places(spec, d_model, tokens):
    """Rows in the buffers of so many tokens."""
    steps = program(spec, d_model, tokens)
    size = _load.capacity(steps)
    return spec.experts.n * size if size is not None else _load.expected(spec, steps, tokens)[""].rows


def _exchange(spec, d_model, b, rows, ranks):
    """To the experts and back."""
    (found,) = sets(spec, d_model, 1)
    return rows * (found.into + found.out) * b * _off(ranks)
