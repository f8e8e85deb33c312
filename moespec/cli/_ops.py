"""`moespec backends` and `moespec ops`."""

from __future__ import annotations

import inspect

from moespec import backend, conformance, cost
from moespec.registry import OPS


def add_to(commands):
    """The commands and their options."""
    backends = commands.add_parser("backends", help="which backends are installed, and whether they can run here")
    backends.set_defaults(run=_backends)
    ops = commands.add_parser("ops", help="list the operations, or print the specification of one")
    ops.add_argument("name", nargs="?")
    ops.set_defaults(run=_ops)


def _backends(options):
    for name in sorted({"numpy", *backend.known()}):
        ready, reason = backend.status(name)
        print(f"{name:12} {'ready' if ready else 'not here'}: {reason}")
    return 0


def _ops(options):
    if options.name is None:
        for name, op in OPS.items():
            summary, _, _ = (inspect.getdoc(op.forward) or "").partition("\n")
            print(f"{name:34} {summary}")
        return 0
    matches = [op for name, op in OPS.items() if options.name in (name, op.short)]
    if not matches:
        raise ValueError(f"no op is called {options.name!r}; `moespec ops` lists them")
    for op in matches:
        print(specification(op))
    return 0


def specification(op) -> str:
    """The specification of an op as text: mathematics, arguments, requirements, cases, cost."""
    lines = [op.name, "=" * len(op.name), "", f"{op.short}{inspect.signature(op.forward)}", "", inspect.getdoc(op.forward), ""]
    if op.backward is not None:
        lines += ["Backward", "--------", f"{op.backward.__name__}{inspect.signature(op.backward)}", "", inspect.getdoc(op.backward), ""]
    lines += ["Arguments", "---------"]
    lines += [f"  input  {a.name:14} [{a.shape}] {_kind(a)}" for a in op.inputs]
    lines += [f"  output {a.name:14} [{a.shape}] {_kind(a)}" for a in op.outputs]
    forward, backward = cost.formula(op)
    lines += ["", "Cost", "----", f"  {forward} FLOP forward, {backward} backward"]
    lines += ["", "Requirements", "------------", *(f"  {r.id}: {r.text}" for r in op.requirements)]
    lines += ["", "Cases", "-----", "  " + ", ".join(c.name for c in conformance.cases_of(op))]
    lines += ["  invalid: " + ", ".join(c.name for c, _, _ in op.invalid)] if op.invalid else []
    return "\n".join([*lines, "", "Sources: " + "; ".join(op.refs)])


def _kind(arg):
    words = [arg.kind, f"of {arg.of}, -1 = none" if arg.of else "", "optional" if arg.optional else "",
             "" if arg.grad or arg.kind != "real" else "constant", f"dtype of {arg.like}" if arg.like else ""]
    return ", ".join(w for w in words if w)
