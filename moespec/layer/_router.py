"""The router by token choice: from the tokens to K experts each."""

from __future__ import annotations

from dataclasses import dataclass

from moespec.layer._check import above, at_least, one_of, only_with, within

SCORES = ("softmax", "sigmoid", "sqrt_softplus")
SELECTIONS = ("topk", "all", "batchwise", "sparsemixer", "relu", "top_p", "assign", "sinkhorn", "table")
DTYPES = ("float64", "float32", "float16", "bfloat16")
# Which of the other fields a selection that makes the weights itself still reads.
WEIGHS_ITSELF = ("batchwise", "sparsemixer", "relu")


@dataclass(frozen=True)
class Norm:
    """A root-mean-square norm: see `gates.rms_norm`.

    `learned` gives it a scale vector, to which `offset` is added; `scale_at` ``"input"`` scales before it divides.
    """

    eps: float = 1e-6
    factor: float = 1.0
    learned: bool = True
    offset: float = 0.0
    scale_at: str = "output"

    def __post_init__(self):
        at_least("Norm", "eps", self.eps, 0)
        only_with("Norm", "offset", self.offset, 0.0, "learned=True", self.learned)
        only_with("Norm", "scale_at", self.scale_at, "output", "learned=True", self.learned)
        one_of("Norm", "scale_at", self.scale_at, ("input", "output"))


@dataclass(frozen=True)
class Net:
    """What turns tokens into logits.

    Attributes
    ----------
    kind : {"linear", "mlp", "product_keys"}
        One matrix; three layers of `hidden` units behind a projection, with a norm and tanh-free GELUs; two sets of
        sqrt(E) keys whose sums score the pairs.
    bias : bool
        A bias on the logits of ``"linear"``.
    norm : Norm, optional
        Of the input (``"linear"``) or of the projection (``"mlp"``).
    hidden : int
        Width of the MLP.
    memory : bool
        Add the previous layer's projection, which is given as ``context["router_states"]``, times a learned vector (``"mlp"``).
    multiplier : float
        Multiplies the logits.
    cap : float, optional
        Then ``cap tanh(l / cap)``.
    """

    kind: str = "linear"
    bias: bool = False
    norm: Norm | None = None
    hidden: int = 0
    memory: bool = False
    multiplier: float = 1.0
    cap: float | None = None

    def __post_init__(self):
        one_of("Net", "kind", self.kind, ("linear", "mlp", "product_keys"))
        only_with("Net", "bias", self.bias, False, "kind='linear'", self.kind == "linear")
        only_with("Net", "norm", self.norm, None, "kind='linear' or 'mlp'", self.kind != "product_keys")
        only_with("Net", "memory", self.memory, False, "kind='mlp'", self.kind == "mlp")
        if self.kind == "mlp":
            at_least("Net", "hidden", self.hidden, 1)
        if self.cap is not None:
            above("Net", "cap", self.cap, 0)


@dataclass(frozen=True)
class Groups:
    """Selection limited to the `keep` best of `n` contiguous groups of experts: see `gates.select`."""

    n: int
    keep: int
    reduce: str = "top2sum"
    base: str = "biased"
    fill: float | str = "-inf"

    def __post_init__(self):
        at_least("Groups", "n", self.n, 1)
        one_of("Groups", "reduce", self.reduce, ("top2sum", "max"))
        one_of("Groups", "base", self.base, ("biased", "raw"))
        one_of("Groups", "fill", self.fill, ("-inf", 0.0))
        if not 1 <= self.keep <= self.n:
            raise ValueError(f"Groups: keep={self.keep} must be in 1 .. {self.n}, the number of groups")


@dataclass(frozen=True)
class Router:
    """Logits to a routing; strings are op names or documented choices.

    Attributes
    ----------
    k : int
        Experts per token.
    net : Net
        Tokens to logits.
    score : str
        The op that turns logits into scores: ``"softmax"``, ``"sigmoid"``, ``"sqrt_softplus"``.
    over : {"all", "selected"}
        Score all experts and select on the scores, or select on the logits and score the chosen.
    select : str
        ``"topk"``; ``"all"``, the dense mixture (k is then the number of experts); ``"batchwise"``, strictly balanced gating: the
        k T / E best tokens of every expert in training, learned thresholds in evaluation; ``"sparsemixer"`` (`gates.sparsemixer`, with
        `threshold` as its eps); ``"relu"`` (`gates.relu_route`); ``"top_p"`` (`gates.top_p`, with `p`, at most k); ``"assign"`` and
        ``"sinkhorn"``, balanced in training and top-k in evaluation; ``"table"``: the experts of token i are row ``input_ids[i]`` of
        a table of `vocab` rows, the weights are learned.
    correction : bool
        A selection bias, added to what is selected on and never to the weights; it has no gradient.
    groups : Groups, optional
        Group-limited selection.
    norm, eps, p, scale
        See `gates.renormalize`; p is the exponent of ``norm="lp"``.
    scale_at : {"weights", "sum"}
        Whether `scale` multiplies the weights or the sum of the routed experts.
    learned_scale, expert_scale : bool
        Multiply the weights by a learned scalar; by a learned scalar of the expert.
    weigh : {"output", "input"}
        What of the expert the weight multiplies.
    noise : {None, "softplus", "gaussian", "gumbel"}
        On the logits, in training: tunable Gaussian noise (`gates.noisy_logits`; `floor` is added to its scale), Gaussian noise of
        standard deviation `noise_scale`, Gumbel noise.
    jitter : float
        Multiply the input by U(1 - jitter, 1 + jitter) in training; `jitter_to` is ``"router"`` or ``"both"``.
    accept : {None, "gshard", "threshold"}
        Random acceptance of the second choice (k = 2): see `gates.accept`.
    dtype : str
        Logits and scores are computed in the wider of this and the input's dtype; weights are cast to the input's.
    init : {"normal", "zeros"}
        Of the router's matrices.
    """

    k: int = 2
    net: Net = Net()
    score: str = "softmax"
    over: str = "all"
    select: str = "topk"
    correction: bool = False
    groups: Groups | None = None
    vocab: int = 0
    norm: str = "none"
    eps: float = 0.0
    p: float = 1.0
    scale: float = 1.0
    scale_at: str = "weights"
    learned_scale: bool = False
    expert_scale: bool = False
    weigh: str = "output"
    noise: str | None = None
    noise_scale: float = 1.0
    floor: float = 0.01
    jitter: float = 0.0
    jitter_to: str = "router"
    accept: str | None = None
    threshold: float = 0.2
    dtype: str = "float32"
    init: str = "normal"

    def __post_init__(self):
        at_least("Router", "k", self.k, 1)
        one_of("Router", "score", self.score, SCORES)
        one_of("Router", "over", self.over, ("all", "selected"))
        one_of("Router", "select", self.select, SELECTIONS)
        one_of("Router", "norm", self.norm, ("none", "sum", "clamp", "lp"))
        one_of("Router", "scale_at", self.scale_at, ("weights", "sum"))
        one_of("Router", "weigh", self.weigh, ("output", "input"))
        one_of("Router", "noise", self.noise, (None, "softplus", "gaussian", "gumbel"))
        one_of("Router", "jitter_to", self.jitter_to, ("router", "both"))
        one_of("Router", "accept", self.accept, (None, "gshard", "threshold"))
        one_of("Router", "dtype", self.dtype, DTYPES)
        one_of("Router", "init", self.init, ("normal", "zeros"))
        within("Router", "jitter", self.jitter, 0.0, 1.0)
        self._selection()

    def _selection(self):
        """What the ways to select exclude."""
        if self.accept and (self.k != 2 or self.select != "topk"):
            raise ValueError(f"Router: accept={self.accept!r} decides on a second choice, got k={self.k}, select={self.select!r}")
        if self.select in WEIGHS_ITSELF and (self.norm != "none" or self.over != "all" or self.score != "softmax"):
            raise ValueError(f"Router: select={self.select!r} weighs by itself, got score={self.score!r}, norm={self.norm!r}, over={self.over!r}")
        topk = self.select == "topk" and self.net.kind != "product_keys"
        only_with("Router", "correction", self.correction, False, "select='topk' on one score per expert", topk)
        only_with("Router", "groups", self.groups, None, "select='topk' on one score per expert", topk)
        if self.select == "table":
            at_least("Router", "vocab", self.vocab, 1)
        only_with("Router", "vocab", self.vocab, 0, "select='table'", self.select == "table")
        if self.over == "selected" and self.score == "softmax" and self.groups:
            raise ValueError("Router: groups select on scores: they need over='all'")
        if self.net.kind == "product_keys" and (self.select != "topk" or self.over != "selected"):
            raise ValueError(f"Router: product keys score the selected pairs: select='topk', over='selected', "
                             f"got select={self.select!r}, over={self.over!r}")
        if self.noise == "softplus" and self.net != Net():
            raise ValueError(f"Router: noise='softplus' is a second matrix beside a plain one, got {self.net}")
