"""The losses' part of a program: each reads its inputs by name among the layer's values."""

from __future__ import annotations

import inspect

from moespec.layer._routers import Hierarchical
from moespec.op import Step
from moespec.program import lookup

# What a loss may read beyond the values that every layer has: the step that makes it, added only if it is read.
DERIVED = {
    "probs": Step("gates.softmax", "logits", "probs"),
    "outputs": Step("dispatch.gather_choices", "out row", "outputs"),
    "logits": Step("gates.pair_sums", "first second", "logits"),
}
# Values that a loss reads under the argument's own name although the layer calls them otherwise.
NAMES = {"noisy": "logits", "thresholds": "router.thresholds"}
# What a loss reads that does not look at what the router chose (Loss.source), and the step that selects it.
SOURCES = {"router": {}, "logits": {"scores": "probs", "indices": "top_logits"}, "scores": {"indices": "top_scores"}}
SELECTED = {"top_logits": "logits", "top_scores": "scores"}


def losses(spec, steps, inputs):
    """Add every loss; what is optional and not there is left out, what is required is an error."""
    known = set(inputs) | {name for s in steps for name in s.writes.split()}
    for loss in spec.losses:
        op, reads = lookup(loss.op), []
        for arg in op.inputs:
            name = SOURCES[loss.source].get(arg.name, NAMES.get(arg.name, arg.name))
            _derive(spec, loss, name, steps, known)
            if name not in known and not arg.optional:
                raise ValueError(f"{loss.op} reads {arg.name!r}, which this layer does not have: give it as context[{arg.name!r}]")
            reads.append(name if name in known else "-")
        others = (f"{loss.name}.{a.name}" for a in op.outputs[1:])
        steps.append(Step(loss.op, " ".join(reads), " ".join((f"loss.{loss.name}", *others)), _attrs(spec, loss, op)))


def _derive(spec, loss, name, steps, known):
    if name in known:
        return
    if name == "outputs" and getattr(spec.router, "select", "") != "all":
        raise ValueError(f"{loss.op} reads the outputs of all experts: it needs Router(select='all')")
    step = Step("gates.topk", SELECTED[name], name, {"k": spec.router.k}) if name in SELECTED else DERIVED.get(name)
    if step is not None:
        _derive(spec, loss, step.reads.split()[0], steps, known)
    if step is not None and step.reads.split()[0] in known:
        steps.append(step)
        known.add(name)


def _attrs(spec, loss, op):
    """Attributes that the layer knows, where the loss has them, under those that it was given."""
    router = spec.router
    known = {"experts": spec.experts.n, "k": getattr(router, "k", 1)}
    if isinstance(router, Hierarchical):
        known |= {"k": router.secondary.k, "k_primary": router.primary.k, "groups": router.groups}
    takes = inspect.signature(op.forward).parameters
    return {name: value for name, value in known.items() if name in takes} | dict(loss.attrs)
