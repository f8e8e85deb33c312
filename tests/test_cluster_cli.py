"""`moespec cluster`: what it prints, and that it says what is wrong."""

import json

import cluster_scaling
import numpy as np
import pytest

import moespec
from moespec.cli import main
from moespec.cost.cluster import Cluster, Link, Zipf, simulate
from moespec.models import FAMILIES, mixtral


def test_json_is_what_simulate_says(capsys):
    line = "cluster mixtral --ranks 4 8 --per-node 4 --tokens 64 --load zipf:0.5 --placement eplb --spare 1 --copies node --overlap 2"
    assert main([*line.split(), "--wire", "float8", "bfloat16", "--intra", "1e-6", "1e11", "0", "--inter", "2e-6", "1e10", "1e-7",
                 "--flops", "1e14", "--memory-bandwidth", "1e12", "--efficiency", "0.5", "--seed", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    entry = FAMILIES["mixtral"]
    for ranks, one in zip((4, 8), told["predicted"], strict=True):
        machine = Cluster(ranks, 4, Link(1e-6, 1e11), Link(2e-6, 1e10, 1e-7), 1e14, 1e12, 0.5)
        found = simulate(machine, entry.spec(), entry.d_model, 64, load=Zipf(0.5), placement="eplb", spare=1, copies="node", overlap=2,
                         wire=("float8", "bfloat16"), rng=3)
        assert one == json.loads(json.dumps(found.to_dict()))
        assert one["forward_s"] + one["backward_s"] == pytest.approx(one["computing_s"] + one["exposed_s"])
        assert len(one["phases"]) == 8


def test_tables(capsys):
    assert main(["cluster", "deepseek_v3", "--ranks", "64", "128", "--expert-parallel", "64", "--tokens", "256"]) == 0
    text = capsys.readouterr().out
    assert "predicted" in text
    for phase in ("route", "dispatch", "experts", "combine"):
        assert text.count(phase) == 2
    assert "128" in text


def test_a_trace_is_a_load(tmp_path, capsys):
    pytest.importorskip("safetensors", reason="traces are safetensors files")
    from moespec.interop import trace
    spec = mixtral(8, 8)
    out, saved = moespec.forward(spec, spec.init(4, rng=0), np.random.default_rng(0).standard_normal((40, 4)))
    trace.save(tmp_path / "t.safetensors", [trace.record(out, saved, layer="a")])
    assert main(["cluster", "mixtral", "--ranks", "8", "--tokens", "16", "--load", f"trace:{tmp_path}/t.safetensors#a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predicted"][0]["imbalance"] >= 1
    assert main(["cluster", "mixtral", "--load", f"trace:{tmp_path}/t.safetensors#b"]) == 2
    assert "has no layer 'b'; it has a" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "message"), [
    ("cluster nobody", "no model is called 'nobody'"),
    ("cluster mixtral --load normal", "wanted uniform, zipf:EXPONENT or trace:FILE"),
    ("cluster mixtral --load zipf:x", "--load zipf:x"),
    ("cluster mixtral --load trace:none", "none is no file"),
    ("cluster mixtral --ranks 6 --expert-parallel 4", "expert_parallel=4 does not divide 6 ranks"),
    ("cluster mixtral --intra 0 0 0", "bandwidth=0.0"),
    ("cluster mixtral --wire int3", "'int3'"),
    ("cluster mixtral --device abacus", "no device is called 'abacus'"),
])
def test_what_is_wrong_is_said(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


def test_the_example_runs(tmp_path, capsys):
    cluster_scaling.main(["--quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cluster_scaling.json").read_text())
    assert {row["plan"] for row in found["scaling"]} == set(cluster_scaling.PLANS)
    assert all(row["ms"] > row["exposed_ms"] > 0 for row in found["scaling"])
    assert "placement EPLB, 1 spare" in capsys.readouterr().out
