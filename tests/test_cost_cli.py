"""`moespec cost`, as a user runs it."""

import importlib.util
import json

import pytest

from moespec.cli import main

KEYS = {"schema", "model", "d_model", "tokens", "dtype", "training", "assumption", "parameters", "device", "steps", "layer", "dense", "embedding",
        "ranks"}


def test_tables(capsys):
    assert main(["cost", "deepseek_v3", "--ranks", "8", "64", "512", "--wire", "float8", "bfloat16", "--device", "h200"]) == 0
    text = capsys.readouterr().out
    for part in ("6 N D F + 5 N F", "experts.glu", "dense, as wide", "embedding", "4,161", "network", "FLOP per byte at which it is balanced"):
        assert part in text
    assert "Layouts" not in text


def test_layouts_and_inference(capsys):
    assert main(["cost", "switch2021", "--layouts", "128", "--model-ways", "4", "--ranks", "8", "--inference"]) == 0
    text = capsys.readouterr().out
    assert "expert + model + data" in text
    assert "2 B D b (1 - 1/N)" in text
    assert main(["cost", "mixtral", "--layouts", "12"]) == 2
    assert "layouts: 12 groups of cores and 8 experts do not divide one another" in capsys.readouterr().err


def test_json_is_what_the_page_says(capsys):
    assert main(["cost", "qwen3_moe", "--tokens", "64", "--json", "--layouts", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS | {"layouts"}
    assert found["schema"] == 1
    assert found["steps"][0]["formula"] == {"forward": "2 T D E", "backward": "4 T D E"}
    assert set(found["ranks"][0]) == {"ranks", "expert_parallel", "network_bytes_per_token", "flop_per_byte", "bytes_per_flop", "gradient_bytes",
                                      "forward", "backward"}


def test_every_way_of_copying(capsys):
    sent = []
    for copies in ("choice", "rank", "node"):
        assert main(["cost", "deepseek_v3", "--copies", copies, "--ranks", "64", "--json"]) == 0
        sent.append(json.loads(capsys.readouterr().out)["ranks"][0]["network_bytes_per_token"]["forward"])
    assert sent[0] > sent[1] > sent[2]
    assert main(["cost", "gshard2020", "--copies", "capacity", "--ranks", "64", "--json"]) == 0


@pytest.mark.parametrize(("args", "message"), [
    (["mixtrall"], "no model is called 'mixtrall'"),
    (["mixtral", "--dtype", "int8"], "layer: dtype='int8' is not one of float64, float32, float16, bfloat16"),
    (["mixtral", "--device", "k40"], "device k40 has no figure for bfloat16; it has float32, float64"),
    (["mixtral", "--wire", "float7"], "wire dtype 'float7' is not one of"),
    (["mixtral", "--copies", "capacity"], "copies='capacity' needs a layer with a capacity"),
    (["mixtral", "--dtype", "float8"], "layer: dtype='float8' is not one of float64, float32, float16, bfloat16"),
    (["mixtral", "--d-model", "0"], "layer: d_model=0 is below 1"),
    (["mixtral", "--tokens", "-1"], "layer: tokens=-1 is below 0"),
    (["mixtral", "--ranks", "0"], "ranks=0 is below 1"),
])
def test_refusals(args, message, capsys):
    assert main(["cost", *args]) == 2
    assert message in capsys.readouterr().err


def test_numbers_are_rounded_before_their_prefix_is_chosen():
    from moespec.cli._cost_tables import number
    assert [number(n, "B") for n in (0, 12, 999.4, 999.6, 999_999, 3.26e12)] == ["0 B", "12 B", "999 B", "1 kB", "1 MB", "3.26 TB"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="the picture needs matplotlib")
@pytest.mark.parametrize("args", [["deepseek_v3", "--ranks", "8", "64"], ["switch2021", "--device", "tpu-v3", "--ranks", "1"],
                                  ["mixtral", "--inference", "--tokens", "16", "--ranks"]])
def test_the_picture(args, tmp_path, capsys):
    path = tmp_path / "cost.png"
    assert main(["cost", *args, "--plot", str(path)]) == 0
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 20_000


def test_without_matplotlib_the_picture_is_refused_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert main(["cost", "mixtral", "--plot", str(tmp_path / "x.png")]) == 2
    assert "--plot needs matplotlib: pip install 'moespec[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
