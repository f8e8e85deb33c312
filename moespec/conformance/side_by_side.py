"""The suite in processes, one a dtype and one for what has no dtype: as many at once as there are cores."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from queue import Empty
from typing import Any, NamedTuple

from moespec.backend import get_backend
from moespec.conformance.isolated import Isolated
from moespec.conformance.report import Report
from moespec.conformance.suite import verify


class Job(NamedTuple):
    """What one process runs."""

    backend: str            # a name: the reference runs in the process, any other backend in one of its own beside it
    dtypes: tuple[str, ...]
    errors: bool            # the checks that have no dtype
    rules: dict             # op, cases, seed
    seconds: float


def verify_by_dtype(backend, dtypes, *, seconds=60.0, progress=lambda what: None, **rules) -> Report:
    """`verify` of the backend called `backend`; results are in the order of `dtypes`, whatever ended first."""
    context = get_context("spawn")                # a fork would copy the threads of BLAS and OpenMP
    jobs = [Job(backend, (), True, rules, seconds), *(Job(backend, (dtype,), False, rules, seconds) for dtype in dtypes)]
    with context.Manager() as manager, ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), mp_context=context) as pool:
        words = manager.Queue()
        running = [pool.submit(_run, job, words) for job in jobs]
        while not all(f.done() for f in running):
            _tell(words, progress)
        reports = [f.result() for f in running]   # raises what a process raised
    return reports[0].join(reports[1:])


def _tell(words: Any, progress):
    with suppress(Empty):
        progress(words.get(timeout=0.1))


def _run(job: Job, words) -> Report:
    if job.backend == "numpy":
        return verify(get_backend("numpy"), dtypes=job.dtypes, errors=job.errors, progress=words.put, **job.rules)
    with Isolated(job.backend, job.seconds) as chosen:
        return verify(chosen, dtypes=job.dtypes, errors=job.errors, progress=words.put, **job.rules)
