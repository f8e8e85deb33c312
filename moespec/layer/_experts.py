"""The experts, and the experts that every token passes through."""

from __future__ import annotations

from dataclasses import dataclass

from moespec.experts import ACTIVATIONS
from moespec.layer._check import above, at_least, one_of, only_with, within
from moespec.layer._router import Norm


@dataclass(frozen=True)
class Clamp:
    """What a gated unit does to its two halves beside the activation: see `experts.glu`.

    `limit` clamps at `at` ``"pre"`` (before the activation) or ``"post"``; `alpha` replaces the activation by g sigmoid(alpha g);
    `up_offset` is added to the other half; `cap_gate` and `cap_up` are soft caps c tanh(z / c).
    """

    limit: float | None = None
    at: str = "pre"
    alpha: float | None = None
    up_offset: float = 0.0
    cap_gate: float | None = None
    cap_up: float | None = None

    def __post_init__(self):
        one_of("Clamp", "at", self.at, ("pre", "post"))
        for name in ("limit", "alpha", "cap_gate", "cap_up"):
            if getattr(self, name) is not None:
                above("Clamp", name, getattr(self, name), 0)


@dataclass(frozen=True)
class Latent:
    """Experts that work in a narrower space: one matrix in before the dispatch, one out after the combine."""

    width: int
    norm: Norm | None = None
    bias: bool = False

    def __post_init__(self):
        at_least("Latent", "width", self.width, 1)


@dataclass(frozen=True)
class Experts:
    """The experts: `n` of them, `width` wide.

    Attributes
    ----------
    kind : str
        ``"glu"`` (w_gate, w_up, w_down), ``"ffn"`` (w_in, w_out), ``"linear"`` (w: one matrix each), ``"singleton"`` (one hidden unit:
        two vectors each).
    activation : str
        A name in ACTIVATIONS.
    bias : bool
        Biases on every matrix of an expert.
    clamp : Clamp
        For ``"glu"``.
    dropout : float
        The expert dropout of the Switch layer: on the hidden activations, in training.
    features : int, optional
        Width of a linear expert's output (default: the layer's).
    partial : int
        ``"linear"`` experts that produce the last so many features of the output from a hidden layer, `width` wide, that all of them
        share; the others are a shared matrix's.  0: none.
    latent : Latent, optional
        Experts in a narrower space.
    norm : Norm, optional
        Of every expert's output, one scale for all, before it is weighted.
    copies, constants, zeros : int
        Further ids after the first n, in this order: experts that return the token itself; a learned mixture of the token and a learned
        vector (MoE++); nothing.
    """

    n: int
    width: int = 0
    kind: str = "glu"
    activation: str = "silu"
    bias: bool = False
    clamp: Clamp = Clamp()
    dropout: float = 0.0
    features: int | None = None
    partial: int = 0
    latent: Latent | None = None
    norm: Norm | None = None
    copies: int = 0
    constants: int = 0
    zeros: int = 0

    def __post_init__(self):
        at_least("Experts", "n", self.n, 1)
        one_of("Experts", "kind", self.kind, ("glu", "ffn", "linear", "singleton"))
        one_of("Experts", "activation", self.activation, tuple(ACTIVATIONS))
        within("Experts", "dropout", self.dropout, 0.0, 1.0)
        for name in ("copies", "constants", "zeros", "partial"):
            at_least("Experts", name, getattr(self, name), 0)
        if self.kind in ("glu", "ffn") or self.partial:
            at_least("Experts", "width", self.width, 1)
        only_with("Experts", "clamp", self.clamp, Clamp(), "kind='glu'", self.kind == "glu")
        if self.kind == "linear" and self.dropout:
            raise ValueError(f"Experts: dropout={self.dropout} needs hidden units, kind='linear' has none")
        if self.kind != "linear" and self.features is not None:
            raise ValueError(f"Experts: features={self.features} is for kind='linear', got kind={self.kind!r}")
        only_with("Experts", "partial", self.partial, 0, "kind='linear'", self.kind == "linear")
        if self.kind == "singleton" and (self.bias or self.dropout or self.latent or self.norm):
            raise ValueError("Experts: kind='singleton' has no bias, dropout, latent or norm")

    @property
    def classes(self):
        """How many ids a router chooses from."""
        return self.n + self.copies + self.constants + self.zeros


@dataclass(frozen=True)
class Shared:
    """An expert that every token passes through.

    `gate` ``"sigmoid"`` multiplies it by sigmoid(x v); ``"router"`` makes it `n` experts whose weights the router shares out
    together with those of the chosen (`gates.joint_weights`); None adds it plainly.
    """

    width: int
    kind: str = "glu"
    activation: str = "silu"
    bias: bool = False
    clamp: Clamp = Clamp()
    gate: str | None = None
    n: int = 1

    def __post_init__(self):
        at_least("Shared", "width", self.width, 1)
        at_least("Shared", "n", self.n, 1)
        one_of("Shared", "kind", self.kind, ("glu", "ffn"))
        one_of("Shared", "activation", self.activation, tuple(ACTIVATIONS))
        one_of("Shared", "gate", self.gate, (None, "sigmoid", "router"))
        only_with("Shared", "clamp", self.clamp, Clamp(), "kind='glu'", self.kind == "glu")
        only_with("Shared", "n", self.n, 1, "gate='router'", self.gate == "router")
