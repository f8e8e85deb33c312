"""The command line, as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from moespec.cli import main


def test_verify_prints_the_matrix_and_writes_the_report(tmp_path, capsys):
    path = tmp_path / "r.json"
    assert main(["verify", "numpy", "--op", "gates.topk", "--report", str(path)]) == 0
    out = capsys.readouterr().out
    assert "gates.topk" in out
    assert "0 failed" in out
    (report,) = json.loads(path.read_text())["reports"]
    assert report["failed"] == 0
    assert report["executed"] == len([r for r in report["results"] if r["status"] != "skip"]) > 500
    ids = [r["id"] for r in report["results"] if r["kind"] == "forward"]
    assert "topk-forward-float32-tie_lower_index_k1" in ids
    assert len(ids) == len(set(ids))


def test_reports_of_several_backends_become_one_matrix(tmp_path):
    for name in ("numpy", "numba"):
        assert main(["verify", name, "--op", "gates.topk", "--dtype", "float32", "--report", str(tmp_path / f"{name}.json")]) == 0
    files = [str(tmp_path / f"{name}.json") for name in ("numpy", "numba")]
    assert main(["report", *files, "--out", str(tmp_path / "matrix.md")]) == 0
    table = (tmp_path / "matrix.md").read_text()
    assert "| requirement | numpy float32 | numba float32 |" in table
    assert re.search(r"^\| TOPK-2: Ids are listed .* \| pass \d+ \| pass \d+ \|$", table, re.MULTILINE)
    assert main(["report", *files, "--out", str(tmp_path / "matrix.html")]) == 0
    assert "TOPK-2" in (tmp_path / "matrix.html").read_text()
    assert main(["report", files[0], "--out", str(tmp_path / "matrix.txt")]) == 2
    (tmp_path / "other.json").write_text("[]")
    assert main(["report", str(tmp_path / "other.json"), "--out", str(tmp_path / "m.md")]) == 2


def test_verify_of_nothing_is_an_error(capsys):
    assert main(["verify", "--op", "no.such"]) == 2
    assert "no op matches 'no.such'" in capsys.readouterr().err


def test_verify_of_no_case_fails(capsys):
    assert main(["verify", "--op", "gates.topk", "--case", "nothing"]) == 1


@pytest.mark.parametrize(("option", "file", "message"), [
    ("--report", "matrix.txt", "matrix.txt ends in '.txt'"),
    ("--report", "nowhere/matrix.md", "there is no folder"),
    ("--known-failures", "none", "none"),
])
def test_a_file_that_cannot_be_is_refused_before_anything_runs(option, file, message, tmp_path, capsys):
    assert main(["verify", "numpy", "--op", "losses.z_loss", option, str(tmp_path / file)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_unknown_backend(capsys):
    assert main(["verify", "nothing"]) == 2
    assert "no backend is called 'nothing'" in capsys.readouterr().err


def test_a_backend_by_name_runs_in_a_process_of_its_own(capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "backends"))
    assert main(["verify", "misbehaving:SEGFAULTS", "--op", "gates.softmax", "--dtype", "float32", "--case", "normal"]) == 1
    out = capsys.readouterr().out
    assert "SIGSEGV" in out
    assert "reproduce('misbehaving:SEGFAULTS', 'gates.softmax', 'normal', 'float32', seed=0)" in out
    assert main(["verify", "no_such_module:X"]) == 2
    assert "no_such_module:X" in capsys.readouterr().err


def test_mutants_of_one_op(capsys):
    assert main(["verify", "--mutants", "--op", "gates.topk", "--dtype", "float32"]) == 0
    assert "6/6" in capsys.readouterr().out


def test_mutants_of_nothing_are_a_failure(capsys):
    assert main(["verify", "--mutants", "--op", "no.such"]) == 1


def test_backends(capsys):
    assert main(["backends"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_ops_lists_all_and_prints_one(capsys):
    assert main(["ops"]) == 0
    assert "gates.topk_softmax" in capsys.readouterr().out
    assert main(["ops", "gates.topk"]) == 0
    text = capsys.readouterr().out
    for part in ("TOPK-1", "ties go to the lower", "k : int", "tie_lower_index", "Shazeer"):
        assert part in text


def test_unknown_op(capsys):
    assert main(["ops", "gates.nothing"]) == 2
    assert "no op is called 'gates.nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--version"], ["verify", "--help"]])
def test_as_a_module(args):
    assert subprocess.run([sys.executable, "-m", "moespec", *args], capture_output=True).returncode == 0
