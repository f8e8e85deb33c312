"""Gates of a fitted mixture: logits by the ops, their gradient by the ops' backward, and an M step."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from moespec import gates
from moespec.fit._data import design
from moespec.fit._irls import irls
from moespec.fit._least_squares import log_precision, penalty, ridge_fit
from moespec.gates._tree import levels
from moespec.numerics import logsumexp, softmax


@dataclass(frozen=True)
class TreeGate:
    """A linear softmax at every node of a tree; with one level the flat gate (Jordan and Jacobs 1994)."""

    branching: tuple[int, ...]
    ridge: float

    @property
    def experts(self):
        return prod(self.branching)

    def start(self, x):
        edges = sum(nodes * children for _, nodes, children in levels(self.branching))
        return {"gate.w": np.zeros((x.shape[1] + 1, edges))}

    def forward(self, params, x):
        """(logits [T, E], the function that turns their gradient into that of the parameters)."""
        edges, linear = gates.linear(design(x), params["gate.w"], dtype="float64")
        logits, tree = gates.tree(edges, branching=self.branching)
        return logits, lambda d: {"gate.w": gates.linear_backward(linear, gates.tree_backward(tree, d))[1]}

    def penalty(self, params):
        """(log prior, its gradient)."""
        w = params["gate.w"]
        return -self.ridge / 2 * float((w * w).sum()), {"gate.w": -self.ridge * w}

    def maximise(self, params, x, posterior):
        """A logit fit at every node: to the responsibility of its children's leaves, weighted by that of its own."""
        columns, w = design(x), params["gate.w"].copy()
        for first, nodes, children in levels(self.branching):
            wanted = posterior.reshape(len(x), nodes, children, -1).sum(3)
            for n in range(nodes):
                own = slice(first + n * children, first + (n + 1) * children)
                w[:, own] = irls(columns, wanted[:, n], w[:, own], self.ridge)
        return {"gate.w": w}


@dataclass(frozen=True)
class GaussianGate:
    """Normalised kernels with diagonal covariances (Xu, Jordan and Hinton 1994).

    The likelihood is that of inputs and targets together, so that every M step has a closed form.  Priors count `ridge` observations each;
    means are drawn to `centre`, variances stop at `floor`.
    """

    experts: int
    ridge: float
    centre: np.ndarray      # D
    floor: np.ndarray       # D

    def start(self, x):
        logs = -np.log(x.var(0) + self.floor)
        return {"gate.means": np.tile(self.centre, (self.experts, 1)), "gate.log_precisions": np.tile(logs, (self.experts, 1)),
                "gate.log_priors": np.full(self.experts, -np.log(self.experts))}

    def forward(self, params, x):
        names = "gate.means", "gate.log_precisions", "gate.log_priors"
        logits, saved = gates.gaussian(x, *(params[n] for n in names))
        return logits, lambda d: dict(zip(names, gates.gaussian_backward(saved, d)[1:], strict=True))

    def penalty(self, params):
        means, logs, priors = (params[f"gate.{n}"] for n in ("means", "log_precisions", "log_priors"))
        away = means - self.centre
        value, dlogs = penalty(logs, self.ridge * away**2, self.floor)
        shares = priors - logsumexp(priors)
        return value + self.ridge * float(shares.sum()), {
            "gate.means": -self.ridge * np.exp(logs) * away, "gate.log_precisions": dlogs,
            "gate.log_priors": self.ridge * (1 - len(priors) * np.exp(shares))}

    def of_inputs(self, params, logits):
        """(log-likelihood of the inputs, its gradient by the logits, and by the priors directly): what makes the likelihood a joint one."""
        priors = params["gate.log_priors"]
        constant = self.centre.size / 2 * np.log(2 * np.pi) + logsumexp(priors)
        return float(logsumexp(logits, axis=1).sum() - len(logits) * constant), softmax(logits, axis=1), -len(logits) * softmax(priors)

    def maximise(self, params, x, posterior):
        count = posterior.sum(0)
        means, logs = np.empty((self.experts, x.shape[1])), np.empty((self.experts, x.shape[1]))
        for i, h in enumerate(posterior.T):
            means[i] = ridge_fit(np.ones((len(x), 1)), x, h, self.ridge, self.centre)[0]
            errors = h @ (x - means[i]) ** 2 + self.ridge * (means[i] - self.centre) ** 2
            logs[i] = log_precision(errors, count[i], self.floor)
        priors = np.log((count + self.ridge) / (len(x) + self.experts * self.ridge))
        return {"gate.means": means, "gate.log_precisions": logs, "gate.log_priors": priors}


@dataclass(frozen=True)
class EqualGate:
    """Every expert weighs the same, everywhere: an average.  Nothing to fit."""

    experts: int

    def start(self, x):
        return {}

    def forward(self, params, x):
        return np.zeros((len(x), self.experts)), lambda d: {}

    def penalty(self, params):
        return 0.0, {}

    def maximise(self, params, x, posterior):
        return {}
