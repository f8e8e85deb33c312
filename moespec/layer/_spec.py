"""The declaration of a layer: frozen, validated, and round-trippable through JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from moespec.layer import _init
from moespec.layer._build import build
from moespec.layer._capacity import Capacity, Loss
from moespec.layer._check import at_least, one_of
from moespec.layer._experts import Experts, Shared
from moespec.layer._fit import fit
from moespec.layer._json import from_plain, to_plain
from moespec.layer._params import parameter_shapes
from moespec.layer._router import Norm, Router
from moespec.layer._routers import ExpertChoice, Given, Hierarchical, Soft

NOISE = ("jitter", "logits", "logits_primary", "accept", "order", "dropout", "heun")
GIVEN = ("x", "indices", "group_indices", "pool.indices", "group", "whole", "ones", "shared_indices")


@dataclass(frozen=True)
class Pool:
    """A second router with its own experts, for the tokens whose `by` is not 0; the first serves the others."""

    router: Router
    experts: Experts
    by: str = "moe_mm_token_type_ids"


@dataclass(frozen=True)
class LayerSpec:
    """One MoE layer, declared.

    Attributes
    ----------
    router : Router, ExpertChoice, Soft, Hierarchical or Given
    experts : Experts
    capacity : Capacity, optional
    losses : tuple of Loss
    init_scale : float
        s in the truncated normal initialisation with standard deviation sqrt(s / fan-in).
    shared : tuple of Shared
        Experts that every token passes through.
    combine : {"sum", "mean"}
        Of the routed and the shared experts: added, or (routed + shared) / 2.
    norm : Norm, optional
        Of the layer's output.
    output_bias : bool
        A bias on the layer's output.
    pool : Pool, optional
        A second router and its experts, for tokens of another kind.
    family : str
        The public family that the declaration comes from, under whose names `interop.hf` writes its parameters; no mathematics.
    """

    router: Router | ExpertChoice | Soft | Hierarchical | Given
    experts: Experts
    capacity: Capacity | None = None
    losses: tuple[Loss, ...] = ()
    init_scale: float = 1.0
    shared: tuple[Shared, ...] = ()
    combine: str = "sum"
    norm: Norm | None = None
    output_bias: bool = False
    pool: Pool | None = None
    family: str = ""

    def __post_init__(self):
        object.__setattr__(self, "losses", tuple(self.losses))
        object.__setattr__(self, "shared", tuple(self.shared))
        at_least("LayerSpec", "init_scale", self.init_scale, 0)
        one_of("LayerSpec", "combine", self.combine, ("sum", "mean"))
        fit(self)

    def __hash__(self):
        """Of the fields, worked out once: shapes are looked up by the declaration."""
        return self._hash

    @cached_property
    def _hash(self):
        return hash(tuple(getattr(self, f.name) for f in fields(self)))

    @cached_property
    def plans(self) -> dict[Any, Any]:
        """What was worked out to run the layer, see `layer._plan.plan`."""
        return {}

    def __getstate__(self):
        """The fields alone: hashes of strings differ between processes."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def columns(self):
        """K of the routing: how many entries a token has."""
        if isinstance(self.router, ExpertChoice) or getattr(self.router, "select", "") in ("all", "batchwise", "relu"):
            return self.experts.n
        return getattr(self.router, "k", 1)

    def init(self, d_model, *, rng=None, dtype="float64"):
        """Parameters by dotted name: see `layer._init.init`."""
        return _init.init(self, d_model, rng=rng, dtype=dtype)

    def draw(self, n_tokens, d_model, *, rng=None):
        """Every noise array of a training step: see `layer._init.draw`."""
        return _init.draw(self, n_tokens, d_model, rng=rng)

    def program(self, tokens, *, rows=1, training=False, context=()):
        """The straight line of ops for `tokens` tokens: what forward runs, and what cost and documentation read.

        `rows` is the number of batch rows (capacity per row), `context` the names that the caller will give.
        """
        known = (*parameter_shapes(self, 8), *(f"noise.{n}" for n in NOISE), *GIVEN, *self.context, *context)
        return build(self, tokens, rows=rows, training=training, inputs=dict.fromkeys(known))

    @cached_property
    def context(self):
        """The context arrays that the layer cannot do without."""
        names = [self.router.by] if isinstance(self.router, Given) else []
        if isinstance(self.router, Router) and self.router.select == "table":
            names.append("input_ids")
        return tuple(names + ([self.pool.by] if self.pool else []))

    def to_dict(self):
        """Plain dicts, lists, numbers and strings: JSON."""
        found = to_plain(self)
        found["losses"] = [{**loss, "attrs": dict(loss["attrs"])} for loss in found["losses"]]
        return found

    @classmethod
    def from_dict(cls, d):
        """The inverse of `to_dict`; an unknown field is a TypeError that names it."""
        losses = [{**loss, "attrs": [*dict(loss.get("attrs", {})).items()]} for loss in d.get("losses", ())]
        return from_plain(cls, {**d, "losses": losses})
