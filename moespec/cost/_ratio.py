"""Compute to communication: operations per byte that crosses the network, in an expert-parallel layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, inf, prod
from typing import NamedTuple

from moespec.cost import _load
from moespec.cost._compare import UNITS
from moespec.cost._layer import layer
from moespec.cost._load import Number
from moespec.cost._require import count, sizes
from moespec.cost._walk import program
from moespec.cost._wire import both_ways
from moespec.cost.collectives import blocks
from moespec.layer import Router
from moespec.layer._params import parameter_shapes

TOKENS = 4096


class Rows(NamedTuple):
    """The rows of one set of experts: how many a token has, numbers in and out of an expert, multiplications and additions in it."""

    per_token: Number
    into: int
    out: int
    flops: int


@dataclass(frozen=True)
class Ratio:
    """Per token, (forward, backward): operations, and bytes that leave a rank for another one.

    `elements` are the numbers of a row in and out of its experts, per token and before anything stays on its rank.
    """

    ranks: int | None
    flops: tuple[Number, Number]
    bytes: tuple[Number, Number]
    elements: Number

    @property
    def forward(self) -> float:
        """FLOP per byte, forward."""
        return _per(self.flops[0], self.bytes[0])

    @property
    def backward(self) -> float:
        """FLOP per byte, backward."""
        return _per(self.flops[1], self.bytes[1])

    @property
    def both(self) -> float:
        """FLOP per byte of a training step."""
        return _per(sum(self.flops), sum(self.bytes))

    @property
    def bytes_per_flop(self) -> float:
        """The inverse of `both`: lower is better."""
        return sum(self.bytes) / sum(self.flops) if sum(self.flops) else 0.0

    @property
    def macs_per_element(self) -> float:
        """Multiply-adds forward per number in and out: what Shazeer et al. 2017 compare with a device (section 3.2)."""
        return _per(self.flops[0] / 2, self.elements)


def _per(a, b) -> float:
    return a / b if b else inf


def compute_to_communication(spec, d_model: int, ranks: int | None = None, *, wire="bfloat16", gradient_wire=None, copies="choice", nodes=None,
                             compute="experts", tokens: int = TOKENS) -> Ratio:
    r"""FLOP per network byte of a layer whose experts are spread over `ranks` ranks, tokens choosing uniformly.

    .. math:: \mathrm{bytes} = n \, (D_\mathrm{in} b_d + D_\mathrm{out} b_c) (1 - 1/R)

    per token, with n rows (copies) of it on the way.  Backward moves the gradients of the same rows: of the combine to the experts, of
    the dispatch back.

    Parameters
    ----------
    spec : LayerSpec
    d_model : int
    ranks : int, optional
        R; None is the limit of many ranks, in which nothing stays where it is.
    wire : str or (str, str)
        Dtype of rows on their way to the experts and back: float64, float32, bfloat16, float16 or float8.
    gradient_wire : str or (str, str), optional
        The same of the gradients: of the combine (to the experts), of the dispatch (back).  By default they travel as their rows do.
    copies : str
        n. ``"choice"``: a row per chosen expert.  ``"rank"``: one per distinct rank, :math:`\sum_r 1 - \binom{E - E_r}{K} / \binom{E}{K}`
        expected; the rank adds up what its experts return.  ``"node"``: one per distinct node among `nodes`, min(M, K) where the router keeps
        the experts of M of as many groups, and bytes are those between nodes.  ``"capacity"``: the full buffers, E C / T.
    nodes : int, optional
        For ``"node"``.
    compute : {"experts", "layer"}
        Whether the operations are the matrix products of the routed experts, or all of the layer.
    tokens : int
        Of one rank: capacities depend on it.
    """
    d_model, tokens = sizes("compute_to_communication", d_model, tokens, least=1)
    if ranks is not None and not 1 <= count("compute_to_communication", "ranks", ranks) <= spec.experts.n:
        raise ValueError(f"compute_to_communication: ranks={ranks} is outside 1 .. {spec.experts.n}, the experts")
    there, back = both_ways("compute_to_communication", wire)
    dthere, dback = (back, there) if gradient_wire is None else both_ways("compute_to_communication", gradient_wire)
    found, parts = sets(spec, d_model, tokens), nodes if copies == "node" else ranks
    share = _share(spec, found, copies, ranks, nodes, tokens) * (1 - 1 / parts if parts else 1)
    forward = share * sum(s.per_token * (s.into * there + s.out * back) for s in found)
    backward = share * sum(s.per_token * (s.out * dthere + s.into * dback) for s in found)
    return Ratio(ranks, _flops(spec, d_model, tokens, found, compute), (forward, backward),
                 sum(s.per_token * (s.into + s.out) for s in found))


def sets(spec, d_model: int, tokens: int) -> tuple[Rows, ...]:
    """The sets of routed experts of a layer: one, or one per pool."""
    shapes = parameter_shapes(spec, d_model)
    steps = program(spec, d_model, tokens)
    found = []
    for prefix, load in _load.expected(spec, steps, tokens).items():
        experts = spec.pool.experts if prefix else spec.experts
        _, there, back = UNITS[experts.kind]
        matrices = [shapes[f"{prefix}experts.{w}"] for w in there + back]
        into, out = (d_model, d_model) if experts.kind == "singleton" else (matrices[0][1], matrices[-1][2])
        found.append(Rows(load.rows / tokens, into, out, 2 * sum(prod(shape[1:]) for shape in matrices)))
    return tuple(found)


def _flops(spec, d_model, tokens, found, compute):
    if compute == "experts":
        forward = sum(s.per_token * s.flops for s in found)
        return forward, 2 * forward
    if compute != "layer":
        raise ValueError(f"compute_to_communication: compute={compute!r} is not one of experts, layer")
    cost = layer(spec, d_model, tokens)
    return cost.forward.flops / tokens, cost.backward.flops / tokens


def _share(spec, found, copies, ranks, nodes, tokens):
    """Copies of a token on the way, per row of it."""
    if copies not in ("choice", "rank", "node", "capacity"):
        raise ValueError(f"compute_to_communication: copies={copies!r} is not one of choice, rank, node, capacity")
    if copies == "choice" or not found[0].per_token:            # a capacity of 0 leaves no row to copy
        return 1
    if copies == "capacity":
        return _buffers(spec, found, tokens)
    router = spec.router
    if not isinstance(router, Router) or router.select in ("all", "batchwise", "relu", "top_p") or spec.pool:
        raise ValueError(f"compute_to_communication: copies={copies!r} needs a router that chooses k experts for every token")
    if copies == "rank":
        return 1 if ranks is None else _distinct(spec, ranks) / found[0].per_token
    if nodes is None or not 1 <= count("compute_to_communication", "nodes", nodes) <= (ranks or nodes):
        raise ValueError(f"compute_to_communication: copies='node' needs nodes in 1 .. ranks, got nodes={nodes} and ranks={ranks}")
    if router.groups is not None and router.groups.n == nodes:
        return min(router.groups.keep, router.k) / found[0].per_token
    return _distinct(spec, nodes) / found[0].per_token


def _distinct(spec, parts):
    """Expected number of distinct parts among which a token's k experts lie, when they are a uniform draw without repetition."""
    n, k = spec.experts.classes, spec.router.k
    return sum(1 - comb(n - own, k) / comb(n, k) for own in blocks(spec.experts.n, parts))


def _buffers(spec, found, tokens):
    """Places in the buffers of all experts, per live row."""
    size = _load.capacity(program(spec, 8, tokens))
    if size is None:
        raise ValueError("compute_to_communication: copies='capacity' needs a layer with a capacity")
    return spec.experts.n * size / (tokens * found[0].per_token)
