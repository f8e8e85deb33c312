"""What a run of the suite found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One executed (or skipped) check."""

    op: str
    kind: str            # forward backward unchanged kept repeat gradient requirement invalid
    dtype: str
    case: str
    status: str          # pass fail weak skip xfail
    message: str = ""
    seed: int = 0
    requirement: str = ""

    @property
    def id(self):
        """Stable: topk-forward-float32-tie_lower_index_k1, topk-TOPK-1-float32-tie_lower_index_k1."""
        return "-".join((self.op.rpartition(".")[2], self.requirement or self.kind, self.dtype, self.case))


@dataclass
class Report:
    """All results of one backend."""

    backend: str
    device: str
    seed: int = 0
    results: list[Result] = field(default_factory=list)
    execution: str = "real"          # or what else it was: "emulated" is no statement about a device
    date: str = field(default_factory=lambda: date.today().isoformat())

    @property
    def executed(self):
        return sum(r.status != "skip" for r in self.results)

    @property
    def where(self):
        """The device; before it what kind of run it was, if not a real one."""
        return self.device if self.execution == "real" else f"{self.execution}: {self.device}"

    @property
    def failures(self):
        return [r for r in self.results if r.status == "fail"]

    def expect(self, patterns):
        """Turn failures whose id matches a known one into ``xfail``; a pattern that no failure matches is a failure itself."""
        for pattern in patterns:
            known = [i for i, r in enumerate(self.results) if r.status in ("fail", "xfail") and fnmatch(r.id, pattern)]
            for i in known:
                self.results[i] = replace(self.results[i], status="xfail")
            if not known:
                self.results.append(Result("known.failures", "stale", "-", pattern, "fail", f"no failure matches {pattern!r}: remove it", self.seed))
        return self

    def join(self, others):
        """This report with the results of `others` of the same backend behind its own."""
        return replace(self, results=[r for report in (self, *others) for r in report.results])

    @property
    def ok(self):
        return self.executed > 0 and not self.failures

    def cells(self):
        """(op, dtype) -> Counter of statuses, in the order run."""
        table: dict[tuple[str, str], Counter] = {}
        for r in self.results:
            table.setdefault((r.op, r.dtype), Counter())[r.status] += 1
        return table

    def to_dict(self):
        """The report as `from_dict` reads it: plain JSON."""
        return {"backend": self.backend, "device": self.device, "seed": self.seed, "execution": self.execution, "date": self.date,
                "executed": self.executed, "failed": len(self.failures), "results": [{"id": r.id, **asdict(r)} for r in self.results]}

    @classmethod
    def from_dict(cls, d):
        """The inverse of `to_dict`."""
        results = [Result(**{k: v for k, v in r.items() if k != "id"}) for r in d["results"]]
        return cls(d["backend"], d["device"], d["seed"], results, d.get("execution", "real"), d.get("date", ""))

    def requirements(self):
        """(requirement, dtype) -> Counter of statuses."""
        table: dict[tuple[str, str], Counter] = {}
        for r in self.results:
            if r.requirement:
                table.setdefault((r.requirement, r.dtype), Counter())[r.status] += 1
        return table


def read_known(path):
    """The patterns of a file of known failures: one id a line, # begins a comment."""
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
    return [line for line in lines if line]
