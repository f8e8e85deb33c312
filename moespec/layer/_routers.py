"""The routers that are not token choice by one score: two levels, expert choice, soft slots, and none at all."""

from __future__ import annotations

from dataclasses import dataclass

from moespec.layer._check import above, at_least, one_of
from moespec.layer._router import DTYPES, Net, Router

PLAIN = Net()


@dataclass(frozen=True)
class Hierarchical:
    """Two levels: `primary` chooses among `groups` groups of experts, `secondary` within each chosen group."""

    groups: int
    primary: Router
    secondary: Router

    def __post_init__(self):
        at_least("Hierarchical", "groups", self.groups, 1)
        for name in ("primary", "secondary"):
            router = getattr(self, name)
            plain = Router(k=router.k, over="selected", noise=router.noise, floor=router.floor, jitter=router.jitter, dtype=router.dtype,
                           init=router.init)
            if router != plain:
                raise ValueError(f"Hierarchical: {name} must select by top-k and weigh by a softmax over the selected "
                                 f"(over='selected', select='topk'), got {router}")
            if router.jitter:
                raise ValueError(f"Hierarchical: jitter={router.jitter} is for a flat Router ({name})")
        if (self.primary.init, self.primary.dtype) != (self.secondary.init, self.secondary.dtype):
            raise ValueError(f"Hierarchical: both levels share init and dtype, got {self.primary} and {self.secondary}")
        if self.primary.k > self.groups:
            raise ValueError(f"Hierarchical: primary k={self.primary.k} exceeds the {self.groups} groups")

    @property
    def k(self):
        return self.primary.k * self.secondary.k

    @property
    def dtype(self):
        return self.primary.dtype


@dataclass(frozen=True)
class ExpertChoice:
    """Every expert takes its best tokens: ``factor * T / E`` of each group (`gates.expert_choice`).

    `scope` ``"row"`` chooses within each batch row, ``"batch"`` among all tokens.  One expert with a sigmoid score is
    mixture-of-depths.
    """

    factor: float = 2.0
    score: str = "softmax"
    scope: str = "row"
    net: Net = PLAIN
    dtype: str = "float32"
    init: str = "normal"

    def __post_init__(self):
        above("ExpertChoice", "factor", self.factor, 0)
        one_of("ExpertChoice", "score", self.score, ("softmax", "sigmoid", "none"))
        one_of("ExpertChoice", "scope", self.scope, ("row", "batch"))
        one_of("ExpertChoice", "dtype", self.dtype, DTYPES)
        one_of("ExpertChoice", "init", self.init, ("normal", "zeros"))
        if self.net.kind != "linear":
            raise ValueError(f"ExpertChoice: net must be linear, got {self.net}")


@dataclass(frozen=True)
class Soft:
    """Soft MoE: every expert has `slots` slots, each a convex combination of the tokens of a batch row (`gates.soft`).

    `normalize` divides tokens and columns of the slot matrix by their lengths, and multiplies the logits by a learned scalar.
    """

    slots: int = 1
    scope: str = "row"
    normalize: bool = False
    dtype: str = "float32"
    init: str = "normal"

    def __post_init__(self):
        at_least("Soft", "slots", self.slots, 1)
        one_of("Soft", "scope", self.scope, ("row", "batch"))
        one_of("Soft", "dtype", self.dtype, DTYPES)
        one_of("Soft", "init", self.init, ("normal", "zeros"))


@dataclass(frozen=True)
class Given:
    """No router: the caller's ids choose the experts, every weight is 1.

    `by` names the context array: ``"input_ids"`` with a table of `vocab` rows is a hash layer, ``"dataset_index"`` without a
    table (vocab = 0) is the expert itself, one id for each batch row.
    """

    by: str = "input_ids"
    k: int = 1
    vocab: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        one_of("Given", "by", self.by, ("input_ids", "dataset_index"))
        at_least("Given", "k", self.k, 1)
        at_least("Given", "vocab", self.vocab, 0)
        if not self.vocab and self.k != 1:
            raise ValueError(f"Given: without a table one id is given per token, got k={self.k}")
