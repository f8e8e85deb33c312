"""The benchmarks: every op has arguments, deterministic values are those pinned, and they agree with what they are made of."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from moespec.backend import NUMPY, resolve
from moespec.op import as_tuple
from moespec.registry import OPS

BENCH = Path(__file__).parents[1] / "asv_bench"


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_arguments(name):
    from benchmarks.arguments import arguments
    inputs, attrs = arguments(OPS[name], 32)
    impl = resolve(NUMPY, name, attrs)
    outputs, saved = impl.forward(*inputs, **attrs)
    outputs = dict(zip((a.name for a in OPS[name].outputs), as_tuple(outputs), strict=True))
    assert all(np.isfinite(a).all() for a in outputs.values())
    if impl.backward:
        grads = as_tuple(impl.backward(saved, *(outputs[a.name] for a in OPS[name].cotangents)))
        assert all(d is None or np.isfinite(d).all() for d in grads)


def test_deterministic_values_are_those_pinned():
    import golden
    pinned = json.loads(golden.FILE.read_text())
    assert not golden.differences(golden.values(), pinned), "meant? then: python asv_bench/golden.py --write"
    assert all(type(value) in (int, float) for value in pinned.values())


def test_a_changed_value_is_a_difference():
    import golden
    assert golden.differences({"a": 1.0, "b": 2}, {"a": 1.0, "b": 2}) == []
    assert golden.differences({"a": np.nextafter(1, 2), "c": 3}, {"a": 1.0, "b": 2}) == [
        "a: pinned 1.0, now 1.0000000000000002", "b: pinned 2, now gone", "c: pinned not, now 3"]


def test_bytes_by_hand():
    """DeepSeek-V3 on 256 ranks: 8 rows of 7168, there and back, forward and backward; 255/256 leave their rank.  SwiGLU: 9 products."""
    import golden
    pinned = json.loads(golden.FILE.read_text())
    assert pinned["Network.track_network_bytes_per_token(deepseek_v3, a row per expert, 256)"] == 8 * 7168 * 2 * 4 * 255 / 256
    assert pinned["ExpertWidth.track_bytes_per_flop(SwiGLU (three matrices), 1024)"] == pytest.approx(4 * 2 / (9 * 2 * 1024), rel=1e-15)
    assert pinned["Padding.track_padding_waste(0.0, 2.0)"] == 0.5


def test_loads_are_whole_and_fall_off():
    from benchmarks.communication import skewed
    for exponent in (0, 0.5, 1.0):
        loads = skewed(64, 8192, exponent)
        assert loads.sum() == 8192
        assert (np.diff(loads) <= 0).all()
    assert loads[0] / loads[9] == pytest.approx(10, rel=0.01)


def test_published_layers_are_narrow_and_route_as_published():
    from benchmarks.layers import NAMES, narrowed
    specs = {name: narrowed(name) for name in NAMES}
    assert {spec.experts.width for spec in specs.values()} == {64}
    assert (specs["deepseek_v3"].experts.n, specs["deepseek_v3"].router.k, specs["deepseek_v3"].router.groups.n) == (256, 8, 8)


def test_without_mpi_there_is_a_reason(monkeypatch):
    from benchmarks import mpi
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    reason = mpi.measured(2)
    assert reason.startswith("ModuleNotFoundError: import of mpi4py")
    with pytest.raises(NotImplementedError, match="mpi4py"):
        mpi.Link().setup({2: reason}, 2)


PAGE = """<script src="https://hosts.example/jquery-3.3.1.min.js" integrity="sha256-Fg=" crossorigin="anonymous" onerror="js_load_failure()"></script>
<script src="summarylist.js"></script><a href="https://elsewhere.example/">a link is no script</a>
<link rel="stylesheet" href="https://hosts.example/bootstrap@3.1.1/dist/css/bootstrap.min.css" integrity="sha256-6V=" crossorigin="anonymous">"""


def test_dashboard_loads_nothing_from_elsewhere(tmp_path):
    import publish
    page = publish.local(PAGE)
    assert '<script src="v/jquery/dist/jquery.min.js" onerror="js_load_failure()"></script>' in page
    assert '<link rel="stylesheet" href="v/bootstrap/dist/css/bootstrap.min.css">' in page
    (tmp_path / "index.html").write_text(page)
    assert publish.remote(tmp_path) == []
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "a.css").write_text("b {background: url('//hosts.example/c.png')}")
    assert len(publish.remote(tmp_path)) == 3


def test_dashboard_with_an_unknown_script_is_refused():
    import publish
    with pytest.raises(ValueError, match=r"loads https://hosts\.example/other\.js, which"):
        publish.local('<script src="https://hosts.example/other.js"></script>')


def test_the_planted_slowdown_still_finds_its_line():
    import planted
    assert (planted.ROOT / planted.FILE).read_text().count(planted.LINE) == 1
    assert "dispatch.plan" in OPS
