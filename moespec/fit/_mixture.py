"""A gate and experts together: the penalised log-likelihood, its gradient, and what a fit returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moespec import gates, losses
from moespec.fit._data import admit, reals

BLENDS = ("cooperation", "specialisation")


@dataclass(frozen=True)
class Mixture:
    """The parts, which hold no parameters."""

    gate: Any
    experts: Any
    name: str               # of the function that fits it, for messages
    columns: int            # of x
    classes: int | None = None

    def expect(self, params, x, y):
        """The E step: (penalised log-likelihood, responsibilities [T, E])."""
        logits, _ = self.gate.forward(params, x)
        outputs, _ = self.experts.outputs(params, x)
        found, _ = losses.mixture_likelihood(logits, self.experts.evidence(params, outputs, y)[0])
        value = -len(x) * float(found.loss) + sum(part.penalty(params)[0] for part in (self.gate, self.experts))
        return value + (self.gate.of_inputs(params, logits)[0] if hasattr(self.gate, "of_inputs") else 0.0), found.posterior

    def maximise(self, params, x, y, posterior):
        """The M step."""
        return {**params, **self.gate.maximise(params, x, posterior), **self.experts.maximise(params, x, y, posterior)}

    def objective(self, params, x, y, loss="likelihood"):
        """(what gradient ascent climbs, its gradient by parameter): the penalised log-likelihood of `expect`, or less the error of a blend."""
        logits, to_gate = self.gate.forward(params, x)
        outputs, to_experts = self.experts.outputs(params, x)
        climbed = self._likelihood(params, logits, outputs, y) if loss == "likelihood" else _blend(loss, logits, outputs, y)
        value, dlogits, doutputs, grads = climbed
        _add(grads, to_gate(dlogits))
        _add(grads, {"experts.w": to_experts(doutputs)})
        for part in (self.gate, self.experts):
            prior, dprior = part.penalty(params)
            value += prior
            _add(grads, dprior)
        return value, grads

    def _likelihood(self, params, logits, outputs, y):
        evidence, to_outputs = self.experts.evidence(params, outputs, y)
        found, saved = losses.mixture_likelihood(logits, evidence)
        dlogits, devidence = losses.mixture_likelihood_backward(saved, -float(len(y)), None)
        value, (doutputs, grads) = -len(y) * float(found.loss), to_outputs(devidence)
        if hasattr(self.gate, "of_inputs"):
            more, dmore, dpriors = self.gate.of_inputs(params, logits)
            value, dlogits = value + more, dlogits + dmore
            grads["gate.log_priors"] = dpriors
        return value, dlogits, doutputs, grads

    def predict(self, params, x):
        """The gate-weighted mean of the experts [T, C]."""
        logits, _ = self.gate.forward(params, x)
        outputs, _ = self.experts.outputs(params, x)
        return (gates.softmax(logits)[0][:, :, None] * self.experts.mean(outputs)).sum(1)


def _blend(loss, logits, outputs, y):
    """Less half the sum of errors of eq. 1.1 or 1.2 of 1991: no precision has a part in it."""
    probs, soft = gates.softmax(logits)
    error, saved = getattr(losses, loss)(probs, outputs, y)
    dprobs, doutputs = getattr(losses, f"{loss}_backward")(saved, -len(y) / 2)
    return -len(y) / 2 * float(error), gates.softmax_backward(soft, dprobs), doutputs, {}


def _add(total, grads):
    for name, d in grads.items():
        total[name] = total[name] + d if name in total else d


@dataclass(frozen=True)
class Fit:
    """A fitted mixture.  `history` is the penalised log-likelihood (or what was climbed instead), one entry an iteration, the start first."""

    model: Mixture
    params: dict[str, np.ndarray]
    history: np.ndarray
    converged: bool

    def predict(self, x):
        """Means [T, C]; with labels, class probabilities."""
        return self.model.predict(self.params, self._inputs(x))

    def gate(self, x):
        """Mixing proportions [T, E]."""
        return gates.softmax(self.model.gate.forward(self.params, self._inputs(x))[0])[0]

    def posterior(self, x, y):
        """Responsibilities [T, E]: which expert answers for which pair of input and target."""
        return self.model.expect(self.params, *self._pairs(x, y))[1]

    def log_likelihood(self, x, y):
        """Of the targets given the inputs, the mean over rows; nothing is penalised."""
        x, y = self._pairs(x, y)
        outputs, _ = self.model.experts.outputs(self.params, x)
        evidence, _ = self.model.experts.evidence(self.params, outputs, y)
        return -float(losses.mixture_likelihood(self.model.gate.forward(self.params, x)[0], evidence)[0].loss)

    def _inputs(self, x):
        return reals(self.model.name, "x", x, self.model.columns)

    def _pairs(self, x, y):
        return admit(self.model.name, x, y, self.model.classes, self.model.columns)
