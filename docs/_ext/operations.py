"""The specification: a page an operation, a page a family, from the records in OPS."""

from __future__ import annotations

import re

from public import FAMILIES
from rst import columns, dropdown, heading, literal, plain, summary, table, toctree

from moespec import conformance, cost
from moespec.registry import OPS

ABOUT = {
    "gates": "From tokens to a routing: logits, scores, selection in the normative order, weights.",
    "dispatch": "From a routing to the rows that experts see, and back: capacity, drops, the plan, permute, combine.",
    "experts": "What experts compute on their rows: grouped products, activations, gated and plain experts, the fused layer.",
    "losses": "What keeps experts in use: likelihoods of mixtures, balance, importance, load, the z-loss.",
}


def pages(standing) -> dict[str, str]:
    """Path -> text, of every page of the specification."""
    found = {"spec/index.rst": _index()}
    for family in FAMILIES:
        found[f"spec/{family}.rst"] = _family(family, [op for op in OPS.values() if op.name.startswith(f"{family}.")])
    return found | {f"spec/{op.name}.rst": _operation(op, standing) for op in OPS.values()}


def _index():
    lines = heading("The specification")
    lines += [f"{len(OPS)} operations, each with forward and backward, its tie and NaN rules, its errors, its numbered requirements and the cases",
              "in which implementations have gone wrong. A requirement has an id (``TOPK-2``) that is never reused, and a check that is executed.",
              "What holds everywhere is on two pages: :doc:`the decisions </decisions>` and :doc:`the numeric contract </numerics>`.", ""]
    rows = []
    for family in FAMILIES:
        ops = [op for op in OPS.values() if op.name.startswith(f"{family}.")]
        rows.append((f":doc:`{family} <{family}>`", str(len(ops)), str(sum(len(op.requirements) for op in ops)), ABOUT[family]))
    lines += table(("family", "operations", "requirements", "what it is about"), rows, "15 10 10 65")
    lines += ["A family of one's own: :doc:`how an operation is added </site/contributing>`. All requirements in one table:",
              ":doc:`requirements </site/requirements>`.", ""]
    return "\n".join(lines + toctree(["/decisions", "/numerics", *FAMILIES, "/site/requirements"]))


def _family(family, ops):
    rows = [(f":doc:`{op.short} <{op.name}>`", summary(op.forward), ", ".join(literal(r.id) for r in op.requirements)) for op in ops]
    lines = [*heading(family), ABOUT[family], "", *table(("operation", "what it computes", "requirements"), rows, "20 50 30", "operations")]
    return "\n".join(lines + toctree([f"{op.short} <{op.name}>" for op in ops]))


def _operation(op, standing):
    lines = [*heading(op.name), ".. rst-class:: sources", "", f"Source: {plain('; '.join(op.refs))}.", ""]
    lines += [*heading("Forward", "-"), f".. autofunction:: moespec.{op.name}", ""]
    lines += [*heading("Backward", "-"), *_backward(op)]
    lines += [*heading("Arguments", "-"), *table(("name", "", "shape", "kind", "dtype"), [*_arguments(op)], "auto")]
    lines += [*heading("Requirements", "-"), *_requirements(op)]
    lines += [*heading("Cases", "-"), *_cases(op)]
    lines += [*heading("Cost", "-"), *_cost(op)] if op.flops else []
    lines += [*heading("Where it stands", "-"), *_standing(op, standing)]
    return "\n".join(lines)


def _backward(op):
    if op.steps is not None:
        called = [f".. autofunction:: moespec.{op.name}_backward", ""] if op.backward is not None else []
        return [*called, "It is a composite: forward runs these steps, backward the same reversed, and adds gradients by name.", "", *_steps(op)]
    if op.backward is None:
        return ["None: nothing that it returns depends smoothly on what it is given.", ""]
    return [f".. autofunction:: moespec.{op.name}_backward", ""]


def _steps(op):
    """The straight line of a composite, for its first case."""
    case = conformance.cases_of(op)[0]
    dims = op.bind(*(case.inputs.get(a.name) for a in op.inputs))
    line = op.line(vars(dims), **case.attrs)
    rows = [(literal(s.op), literal(s.reads), literal(s.writes), literal(", ".join(f"{k}={v}" for k, v in s.attrs.items()))) for s in line]
    attrs = ", ".join(f"{k}={v!r}" for k, v in case.attrs.items())
    return [f"For ``{attrs}``:" if attrs else "By default:", "", *table(("operation", "reads", "writes", "attributes"), rows)]


def _arguments(op):
    for way, args in (("in", op.inputs), ("out", op.outputs)):
        for a in args:
            kind = ", ".join(w for w in (a.kind, f"of {a.of}, -1 is none" if a.of else "", "optional" if a.optional else "",
                                         "constant" if a.kind == "real" and not a.grad else "") if w)
            yield literal(a.name), way, literal(", ".join(a.shape.split()) or "()"), kind, _dtype(a)


def _dtype(arg):
    if arg.kind != "real":
        return {"mask": "bool"}.get(arg.kind, "int64")
    return {"": "that of the first real input", "acc": "the accumulation dtype"}.get(arg.like, f"as {plain(arg.like)}")


def _requirements(op):
    lines = []
    for r in op.requirements:
        lines += [f".. _{r.id}:", "", ".. rst-class:: requirement", "", f"**{r.id}** {plain(r.text)}", ""]
    return lines


def _cases(op):
    cases = conformance.cases_of(op)
    rows = [(c.name, " ".join(sorted(c.tags)), ", ".join(f"{k}={v!r}" for k, v in c.attrs.items())) for c in cases]
    tags = sorted({t for c in cases for t in c.tags})
    lines = [f"{len(cases)} inputs, in every dtype; their tags: {', '.join(tags)}.", ""]
    lines += dropdown(f"The {len(cases)} cases: name, tags, attributes", columns(rows))
    if op.invalid:
        wrong = [(c.name, error.__name__, re.sub(r"\\(.)", r"\1", message)) for c, error, message in op.invalid]
        lines += dropdown(f"The {len(wrong)} inputs that are refused: name, error, message", columns(wrong))
    return lines


def _cost(op):
    rows = [(way, literal(text)) for way, text in zip(("forward", "backward"), cost.formula(op), strict=True)]
    return [*table(("", "floating-point operations"), rows, "20 80"), "Bytes follow from the shapes and dtypes above.", ""]


def _standing(op, standing):
    rows = [(e["backend"], e["execution"], "builds" if e["execution"] == "compiled" else "checks", *map(str, e["ops"][op.name]), e["date"])
            for e in standing if op.name in e["ops"]]
    if not rows:
        return ["New: the record of :doc:`where the backends stand </standing>` is older. ``moespec verify --op " + op.name + "`` tells.", ""]
    return [*table(("backend", "was", "", "executed", "failed", "on"), rows), ":doc:`What these words mean </standing>`.", ""]
