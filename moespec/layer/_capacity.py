"""How many tokens an expert takes, and what is added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moespec.layer._check import at_least, one_of
from moespec.program import lookup


@dataclass(frozen=True)
class Capacity:
    """How many tokens an expert takes: `dispatch.capacity` and `dispatch.drop`.

    `scope` ``"row"`` counts per batch row, ``"batch"`` over all tokens; `eval_factor` and `eval_formula`
    replace `factor` and `formula` in evaluation; `reweigh` normalises the weights before or after the drop; `reroute` sends what
    overflows to the next-best expert; `fixed` is a number of tokens instead of a formula.
    """

    factor: float = 1.25
    formula: str = "ceil"
    order: str = "choice"
    scope: str = "batch"
    minimum: int = 0
    multiple: int = 1
    eval_factor: float | None = None
    eval_formula: str | None = None
    reweigh: str = "before"
    reroute: bool = False
    fixed: int | None = None

    def __post_init__(self):
        at_least("Capacity", "factor", self.factor, 0)
        one_of("Capacity", "order", self.order, ("token", "choice", "score", "batch", "random"))
        one_of("Capacity", "scope", self.scope, ("batch", "row"))
        one_of("Capacity", "reweigh", self.reweigh, ("before", "after"))
        if self.fixed is not None:
            at_least("Capacity", "fixed", self.fixed, 0)


@dataclass(frozen=True)
class Loss:
    """An auxiliary loss: the op, its coefficient (applied once, by the layer) and attributes; inputs are found by name.

    `source` ``"router"`` counts the ids that the router chose; ``"logits"`` those of the k largest logits, and takes the softmax of
    the logits for probabilities, whatever the router does (the loss that most public code has); ``"scores"`` those of the k largest
    scores, without a selection bias (the sequence-wise loss of DeepSeek-V3).
    """

    op: str
    coef: float = 1.0
    attrs: tuple[tuple[str, Any], ...] = ()
    source: str = "router"

    def __post_init__(self):
        lookup(self.op)
        one_of("Loss", "source", self.source, ("router", "logits", "scores"))
        object.__setattr__(self, "attrs", tuple((str(k), v) for k, v in self.attrs))

    @property
    def name(self):
        return self.op.split(".", 1)[1]
