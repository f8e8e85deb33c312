"""The checks of one case: parity, repeatability, inputs unchanged, requirements, errors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from moespec import corpus
from moespec.conformance.execute import NotGiven, execute, forward, validating, view
from moespec.conformance.gradients import TOLERANCE, gradient_error
from moespec.conformance.inputs import skipped, typed
from moespec.conformance.parity import in_order, parity
from moespec.conformance.report import Result


def check_case(backend, op, case, dtype, seed=0):
    """Results of everything that one case in one dtype is checked for."""
    def result(kind, status, message=""):
        return Result(op.name, kind, dtype, case.name, status, message, seed)

    why = skipped(case, dtype)
    if why:
        return [result("forward", "skip", why)]
    try:
        with np.errstate(all="ignore"):
            run = execute(backend, op, case, dtype, seed)
    except NotImplementedError as error:
        return [result("forward", "skip", str(error))]
    except Exception as error:        # whatever a kernel raises is its failure, and the run goes on
        return [result("forward", "fail", f"raised {type(error).__name__}: {error}")]
    found = [result(*r) for r in parity(backend, op, case, dtype, run)]
    found.append(result("unchanged", *_unchanged(op, case, dtype, run)))
    if backend.deterministic:
        found.append(result("repeat", *_repeated(backend, op, case, dtype, seed, run)))
    found.append(result("kept", *_kept(backend, op, case, dtype, seed, run)))
    if not any(r.status == "fail" for r in found):
        if not backend.declares.get("ordered", True):
            run = run._replace(outputs=in_order(op, run, backend.declares))
        found += [replace(result("requirement", status, text), requirement=name)
                  for name, status, text in requirements(backend, op, case, dtype, run)]
    return found


def _unchanged(op, case, dtype, run):
    for arg, before, after in zip(op.inputs, typed(op, case.inputs, dtype), run.inputs, strict=True):
        if before is not None and before.tobytes() != after.tobytes():
            return "fail", f"{arg.name} was changed"
    return "pass", ""


def _kept(backend, op, case, dtype, seed, run):
    """A later call on other inputs of the same shapes (the rows reversed) must not change what an earlier one returned."""
    results = [a for a in (*run.outputs, *(run.grads or ())) if a is not None]
    before = [a.tobytes() for a in results]
    other = case._replace(inputs={n: x if x is None or _is_offsets(op, n) else np.asarray(x)[::-1] if np.ndim(x) else x
                                  for n, x in case.inputs.items()})
    try:
        with np.errstate(all="ignore"):
            execute(backend, op, other, dtype, seed)
    except Exception:        # the reversed inputs need not make sense; what matters is what happened to the first result
        return "pass", ""
    changed = any(a.tobytes() != b for a, b in zip(results, before, strict=True))
    return ("fail", "a later call overwrote its result") if changed else ("pass", "")


def _is_offsets(op, name):
    return any(a.name == name and "+" in a.shape for a in op.inputs)


def _repeated(backend, op, case, dtype, seed, run):
    try:
        with np.errstate(all="ignore"):
            again = execute(backend, op, case, dtype, seed)
    except Exception as error:        # as in the first run
        return "fail", f"a second run raised {type(error).__name__}: {error}"
    for first, second in zip((*run.outputs, *(run.grads or ())), (*again.outputs, *(again.grads or ())), strict=True):
        if first is not None and first.tobytes() != second.tobytes():
            return "fail", "a second run gave other bits"
    return "pass", ""


def requirements(backend, op, case, dtype, run):
    """(id, status, message) of every requirement that applies to the case."""
    seen = view(backend, op, case, dtype, run)
    for req in op.requirements:
        try:
            with np.errstate(all="ignore"):
                holds = req.check(seen)
        except NotGiven:
            continue
        except Exception as error:        # a result too wrong to be looked at
            yield req.id, "fail", f"its check raised {type(error).__name__}: {error}"
            continue
        if holds is not None:
            yield (req.id, "pass", "") if np.all(holds) else (req.id, "fail", req.text)


def check_gradient(op, case, seed=0):
    """The reference's backward against differences; None where the case is not smooth or has no gradient."""
    if not op.grads or case.tags & corpus.NO_DIFFERENCES:
        return None
    with np.errstate(all="ignore"):
        error = gradient_error(op, case, seed)
    if error is None:
        return None
    status = "pass" if error <= TOLERANCE else "fail"
    return Result(op.name, "gradient", "float64", case.name, status, f"relative error {error:.1e}", seed)


def check_invalid(backend, op, case, exception, pattern):
    """A wrong call raises the error that the specification names."""
    def result(status, message=""):
        return Result(op.name, "invalid", "float64", case.name, status, message)

    inputs = tuple(None if case.inputs.get(a.name) is None else np.asarray(case.inputs[a.name]) for a in op.inputs)
    try:
        with validating(backend):
            forward(backend, op, inputs, case.attrs)
    except exception as error:
        return result("pass") if re.search(pattern, str(error)) else result("fail", f"the message is {str(error)!r}, wanted /{pattern}/")
    except NotImplementedError as error:
        return result("skip", str(error))                 # an op that the backend lacks, or attributes that it does not do
    except Exception as error:
        return result("fail", f"raised {type(error).__name__}: {error}, wanted {exception.__name__}")
    return result("fail", f"raised nothing, wanted {exception.__name__} /{pattern}/")

