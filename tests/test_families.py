"""A sample of public blocks, recorded from the library itself in a tiny size: output and every gradient, in float64."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import moespec
from moespec import models
from moespec.interop import hf

FILE = np.load(Path(__file__).parent / "data" / "families.npz")
NAMES = sorted({key.split("/")[0] for key in FILE.files if "/" in key})


def recorded(name):
    """The configuration, and the arrays by name: inputs are multiples of 1/256, kept as integers."""
    head, exact, real = json.loads(str(FILE[f"{name}/head"])), FILE[f"{name}/exact"] / 256, FILE[f"{name}/real"]
    found = {}
    for flat, entries in ((exact, head["exact"]), (real, head["real"])):
        at = 0
        for key, shape, *dtype in entries:
            found[key] = flat[at:at + int(np.prod(shape))].reshape(shape).astype(*(dtype or ["float64"]))
            at += found[key].size
    return head["config"], found


def below(arrays, prefix):
    """Those whose name has the prefix, without it."""
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


BACKENDS = ("numpy", *(["moespec_numba:BACKEND"] if importlib.util.find_spec("moespec_numba") else []))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_recorded_block(name, backend):
    family, _, layer = name.partition(".")
    config, arrays = recorded(name)
    spec, params = hf.load(family, config, below(arrays, "p/"), layer=int(layer or 0))
    out, saved = moespec.forward(spec, params, arrays["x"], context=below(arrays, "c/"), backend=backend)
    grads = moespec.backward(saved, arrays["g"], dlosses={})
    back = hf.export(spec, grads.params)
    checks = [("y", out.y, arrays["y"]), ("dx", grads.x, arrays["dx"]), *((key, back[key], d) for key, d in below(arrays, "d/").items())]
    for what, got, want in checks:
        assert np.abs(got - want).max() <= 1e-11 * np.abs(want).max(), what


def test_names_are_of_the_table():
    assert {name.partition(".")[0] for name in NAMES} <= set(models.FAMILIES)
