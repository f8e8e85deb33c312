"""The suite: every check of every op on one backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatch

from moespec.backend import NUMPY
from moespec.conformance.checks import check_case, check_gradient, check_invalid
from moespec.conformance.inputs import DTYPES, cases_of
from moespec.conformance.report import Report
from moespec.registry import OPS


def chosen(pattern="*") -> list:
    """The ops whose name matches a shell pattern; a bare name matches in every family."""
    return [op for name, op in OPS.items() if fnmatch(name, pattern) or fnmatch(op.short, pattern)]


def known_dtypes(dtypes) -> list[str]:
    """The dtypes that were asked for; one that is none is an error here, and no failure of who is judged."""
    found = list(dtypes)
    for dtype in found:
        if dtype not in DTYPES:
            raise ValueError(f"verify: no dtype is called {dtype!r}; wanted a list of some of {', '.join(DTYPES)}")
    return found


def verify(backend=NUMPY, *, op="*", dtypes: Iterable[str] = DTYPES, cases="*", seed=0, errors=True,
           progress: Callable[[str], None] = lambda what: None) -> Report:
    """Run the conformance suite on `backend`.

    Parameters
    ----------
    backend : Backend
        See `moespec.backend.Backend`.
    op, cases : str
        Shell patterns of the ops and of the case names to run.
    dtypes : iterable of str
        Those that the backend does not support are left out.
    seed : int
        Of all random inputs.
    errors : bool
        Whether to run the checks that have no dtype too: wrong inputs, and gradients of the reference.
    progress : callable
        Called with a word before each op and dtype.

    Returns
    -------
    Report
    """
    dtypes = known_dtypes(dtypes)
    report = Report(backend.name, backend.available()[1], seed, execution=getattr(backend, "execution", "real"))
    for record in chosen(op):
        found = [c for c in cases_of(record, seed) if fnmatch(c.name, cases)]
        for dtype in (d for d in dtypes if d in backend.dtypes):
            progress(f"{record.name} {dtype}")
            for case in found:
                report.results += check_case(backend, record, case, dtype, seed)
        if errors:
            report.results += once(backend, record, found, cases, seed)
    return report


def once(backend, record, found, cases, seed):
    """The checks that have no dtype: errors, and for the reference its gradients."""
    results = []
    if backend.declares.get("errors", True):          # a single kernel is not asked for the specification's messages
        results = [check_invalid(backend, record, c, error, pattern) for c, error, pattern in record.invalid if fnmatch(c.name, cases)]
    if backend is NUMPY:
        results += [r for c in found if (r := check_gradient(record, c, seed)) is not None]
    return results
