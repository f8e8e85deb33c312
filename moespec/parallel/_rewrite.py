"""From the program of a layer to that of one rank: the same lines, on this rank's tokens, with exchanges in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from moespec.op import Op, Step
from moespec.parallel._kinds import BATCH, EXPERTS, PLANS
from moespec.program import lookup

# Where a value is.
LOCAL = "local"         # every rank has that of its own tokens (or of the rows of its own plan)
WHOLE = "whole"         # every rank has that of all tokens, as name@all
SAME = "same"           # has no axis of tokens, and is the same on every rank: parameters, losses, slots
EITHER = "either"       # follows from shapes: both name and name@all are given
OWN = "own"             # every rank has the blocks of its own experts
ABSENT = "absent"
BY_TOKEN = (LOCAL, WHOLE, EITHER)


class Parts(NamedTuple):
    """How a batch and its experts are cut."""

    rank: int
    tokens: tuple[int, ...]                     # of every rank
    own: Mapping[str, tuple[int, ...]]          # a sharded parameter's blocks


def rewrite(steps, places: Mapping[str, str], parts: Parts, *, ordered: bool = False, chunks: int = 1) -> tuple[Step, ...]:
    """The program of one rank; those of the others differ in sizes only.

    Parameters
    ----------
    steps : sequence of Step
        Of the whole batch: capacities are those of all tokens.
    places : mapping of str to str
        Where every input is.
    parts : Parts
    ordered : bool
        Steps that read what is replicated and has a gradient see all tokens, on every rank: no sum depends on how tokens are cut.
    chunks : int
        See `exchanged`.
    """
    rewriter = _Rewriter(steps, places, parts, ordered, chunks)
    for step in steps:
        rewriter.add(step)
    return rewriter.finished()


class _Rewriter:
    def __init__(self, steps, places, parts, ordered, chunks):
        self.at, self.parts, self.ordered, self.chunks = dict(places), parts, ordered, chunks
        self.done: list[Step] = []
        self.gathered: dict[str, str] = {}
        self.plan_of: dict[str, tuple[str, str]] = {}               # row and offsets of the plan that rows, or a plan's own outputs, belong to
        self.readers: Counter = Counter()
        self.replayed = set(places) & {name for s in steps for name in s.writes.split()}
        units = (s for s in steps if s.op in EXPERTS and any(self.at.get(n) == OWN for n in s.reads.split()))
        self.routed = {s.reads.split()[1] for s in units}           # offsets of plans whose rows travel

    def add(self, step: Step):
        op, names = lookup(step.op), step.reads.split()
        args = list(zip(op.inputs, names, strict=False))
        if op.name in EXPERTS and any(self._place(n) == OWN for n in names):
            kind = "" if self._place(names[0]) == LOCAL else "slots_"
            chunks = {} if kind else {"chunks": self.chunks}
            reads = [self._here(a, n) if not kind and self._place(n) != OWN else n for a, n in args]
            self._write(Step(f"parallel.{kind}{op.short}", " ".join(reads), step.writes, {**step.attrs, **chunks}), op, args, local=not kind)
        elif self._sees_all(op, args, step):
            self._write(step._replace(reads=" ".join(self._everywhere(n) for _, n in args)), op, args, local=False)
        else:
            attrs = self._of_part(step)
            self._write(step._replace(reads=" ".join(self._here(a, n) for a, n in args), attrs=attrs), op, args, local=True)

    def finished(self):
        """With the part of everything that is whole, under its own name, for the caller."""
        for name in [n for n, place in self.at.items() if place == WHOLE]:
            self._part(name, name)
        return tuple(self.done)

    def _sees_all(self, op: Op, args, step):
        """Whether every rank runs the step on all tokens."""
        if op.name in BATCH or not any(self._place(n) in BY_TOKEN for _, n in args):
            return True
        if op.name == "dispatch.plan":
            return self.ordered and step.writes.split()[2] not in self.routed
        if op.name in PLANS:
            return any(a.name in ("token", "row") and self._place(n) != LOCAL for a, n in args)
        return self.ordered and any(a.differentiable and self._place(n) in (SAME, OWN) for a, n in args)

    def _place(self, name):
        return ABSENT if name == "-" else self.at[name]

    def _of_part(self, step):
        """Attributes that count the tokens."""
        if step.op != "dispatch.scatter_choices":
            return step.attrs
        tokens = self.parts.tokens
        return {**step.attrs, "rows": step.attrs["rows"] // max(sum(tokens), 1) * tokens[self.parts.rank]}

    def _here(self, arg, name):
        """How a step on this rank's tokens reads a value."""
        place = self._place(name)
        if place == WHOLE:
            return self._part(name, self._fresh(name))
        if place == OWN:
            name = self._own(name)
        if place in (SAME, OWN) and arg.differentiable:
            return self._step("replicated", name, self._fresh(name), label=f"replicated {name}")
        return "-" if place == ABSENT else name

    def _everywhere(self, name):
        """How a step on all tokens reads a value."""
        place = self._place(name)
        if place == LOCAL:
            return self._gather(name)
        if place == OWN:
            return self._own(name)
        return {WHOLE: f"{name}@all", EITHER: f"{name}@all", ABSENT: "-"}.get(place, name)

    def _part(self, name, writes):
        if name in self.plan_of:
            return self._step("part_rows", " ".join((f"{name}@all", *self.plan_of[name])), writes, label=f"part {name}")
        return self._step("part", f"{name}@all", writes, sizes=self.parts.tokens, label=f"part {name}")

    def _gather(self, name):
        sizes = self.parts.tokens
        if name in self.plan_of:
            return self._step("gather_rows", f"{name} {self.plan_of[name][1]}", self._fresh(name), label=f"gather {name}")
        if name in self.gathered:
            return self._step("again", f"{name} {self.gathered[name]}", self._fresh(name), sizes=sizes)
        self.gathered[name] = f"{name}@given" if name in self.replayed else f"{name}@all"         # before the program writes the name itself
        return self._step("gather", name, self.gathered[name], sizes=sizes, label=f"gather {name}")

    def _own(self, name):
        if name not in self.gathered:
            self.gathered[name] = self._step("gather", name, f"{name}@all", sizes=self.parts.own[name], label=f"gather {name}")
            self.at[f"{name}@all"] = SAME
        return self.gathered[name]

    def _step(self, op, reads, writes, **attrs):
        self.done.append(Step(f"parallel.{op}", reads, writes, attrs))
        return writes

    def _fresh(self, name):
        self.readers[name] += 1
        return f"{name}@{self.readers[name]}"

    def _write(self, step, op, args, *, local):
        """Add the step, and note where what it writes is."""
        writes = []
        plan = self._plan(step, op, args, local)
        letters = {_letter(a) for a, n in args if a.shape and self._place(n) in BY_TOKEN}
        for arg, name in zip(op.outputs, step.writes.split(), strict=True):
            by_token = arg.shape[:1] == "T" or _letter(arg) in letters
            self.gathered.pop(name, None)
            self.replayed.discard(name)
            if _letter(arg) in plan:
                self.plan_of[name] = plan[_letter(arg)]
            self.at[name] = LOCAL if local else WHOLE if by_token else SAME
            writes.append(f"{name}@all" if self.at[name] == WHOLE else name)
        self.done.append(step._replace(writes=" ".join(writes)))

    def _plan(self, step, op, args, local):
        """Which outputs, by the letter of their first axis, are rows of a plan, and of which."""
        if op.name == "dispatch.plan":
            row, offsets = step.writes.split()[1:]
            return dict.fromkeys(("N", "T", "E+1"), (row, offsets)) if local else {}
        known = {_letter(a): self.plan_of[n] for a, n in args if n in self.plan_of}
        return dict.fromkeys("N" if known else "", next(iter(known.values()), None)) if op.name in PLANS else known


def _letter(arg):
    return arg.shape.split()[0] if arg.shape else ""
