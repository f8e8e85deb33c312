"""Every family that the installed transformers defines: its live block against the declaration, in float64."""

import numpy as np
import pytest

import moespec
from moespec import models
from moespec.interop import hf

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from families import installed, run  # noqa: E402  (beside this file)
from family_blocks import BLOCKS  # noqa: E402

LIMIT = 1e-11


def errors(name):
    """Relative error of the output, of dx, and the worst of the parameters' gradients."""
    entry = BLOCKS[name]
    x, g, context, config, tensors, y, dx, grads = run(name)
    spec, params = hf.load(entry.family, config, tensors, layer=entry.layer)
    out, saved = moespec.forward(spec, params, x, context=context)
    ours = moespec.backward(saved, g, dlosses={})
    back = hf.export(spec, ours.params)
    assert set(back) == set(tensors)
    worst = max(relative(back[k], grads[k]) for k in grads)
    return relative(out.y, y), relative(ours.x, dx), worst


def relative(got, want):
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / max(np.abs(want).max(), np.finfo(float).tiny)) if want.any() else float(np.abs(got).max())


@pytest.mark.parametrize("name", BLOCKS)
def test_the_declaration_is_the_live_block(name):
    if not installed(name):
        pytest.skip(f"this transformers has no {name}")
    found = errors(name)
    assert max(found) < LIMIT, found


@pytest.mark.parametrize("name", [n for n, b in BLOCKS.items() if not b.variant])
def test_native_float32_differs_by_rounding_alone(name):
    """The block with its own casts, in float32, against the declaration in float32."""
    if not installed(name):
        pytest.skip(f"this transformers has no {name}")
    entry = BLOCKS[name]
    x, _, context, config, tensors, y, *_ = run(name, native=True)
    spec, params = hf.load(entry.family, config, tensors, layer=entry.layer)
    ours = moespec.forward(spec, params, x, context=context)[0].y
    assert ours.dtype == np.float32
    assert relative(ours, y) < 2e-6


@pytest.mark.parametrize("name", BLOCKS)
def test_export_undoes_load(name):
    if not installed(name):
        pytest.skip(f"this transformers has no {name}")
    entry = BLOCKS[name]
    *_, config, tensors, _, _, _ = run(name)
    spec, params = hf.load(entry.family, config, tensors, layer=entry.layer)
    back = hf.export(spec, params)
    for key, value in tensors.items():
        same = back[key][:spec.experts.n] == value[:spec.experts.n] if key.startswith("experts.gate_up") else back[key] == value
        assert np.all(same), key


def test_every_family_of_the_table_has_a_block():
    assert {b.family for b in BLOCKS.values()} == set(models.FAMILIES)
