"""The report of a GPU, as far as there is none: a dry run of all its stages, and what it makes of figures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import moespec_cupy

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "asv_bench" / "gpu_report.py"


@pytest.fixture(autouse=True)
def stages_are_found(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "asv_bench"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_dry_run(tmp_path):
    before = sorted((ROOT / "docs").rglob("*"))
    done = subprocess.run([sys.executable, PROGRAM, "--dry-run", "--out", tmp_path], capture_output=True, text=True, check=False)
    page, record = (next(tmp_path.glob(f"gpu-dry-run-*-*-??.{kind}")) for kind in ("md", "json"))
    assert done.returncode == 0, done.stdout + done.stderr + page.read_text()
    stages = json.loads(record.read_text())["stages"]
    assert list(stages) == ["about", "verify", "verify-loop", "verify-nvmath", "verify-numba-cuda", "tests", "memcheck", "racecheck", "bench",
                            "bench-numba-cuda"]
    assert all(s["ok"] and s["dry_run"] for s in stages.values())
    assert {test.partition("::")[0] for test in stages["tests"]["skipped"]} >= {"test_numba_cuda_gpu"}
    for name in ("verify", "verify-loop", "verify-nvmath", "verify-numba-cuda"):
        assert stages[name]["execution"] == "emulated"
        assert stages[name]["executed"] > 0
    for row in stages["bench"]["rows"]:
        assert {"tile", "loop", "nvmath", "floor"} <= {name for name, c in row["candidates"].items() if "min_ms" in c}
    numba = stages["bench-numba-cuda"]
    assert set(numba["launches"]) == {"numba-cuda", "Numba", "cupy"}
    assert [p["product"] for p in numba["products"]] == ["nn", "nt", "tn"]
    assert all("min_ms" in c for row in numba["products"] + numba["layers"] for c in row["candidates"].values())
    assert "nothing here was run on a GPU" in page.read_text()
    assert "reached" not in page.read_text()
    kept = {path.name.partition("-verify")[2] for path in tmp_path.glob("*.checks.json.gz")}
    assert kept == {f"{way}.checks.json.gz" for way in ("", "-loop", "-nvmath", "-numba-cuda")}
    assert sorted((ROOT / "docs").rglob("*")) == before


def test_a_stage_that_fails_or_takes_too_long_does_not_stop_the_next(tmp_path, monkeypatch, capsys):
    import gpu_report
    stage, about = gpu_report.Stage, gpu_report.STAGES["about"]
    stages = {"breaks": stage("nothing_of_this_name", "", 60), "hangs": stage("about", "", 0), "about": about}
    monkeypatch.setattr(gpu_report, "STAGES", stages)
    assert gpu_report.main(["--dry-run", "--out", str(tmp_path), "--only", *stages]) == 1
    said = capsys.readouterr().out
    assert [line.partition(",")[0] for line in said.splitlines()] == ["breaks: FAILED", "hangs: FAILED", "about: ok"]
    page = next(tmp_path.glob("*.md")).read_text()
    assert "No module named gpu.nothing_of_this_name" in page
    assert "stopped after 0 s" in page


@pytest.mark.skipif(moespec_cupy.BACKEND.available()[0], reason="there is a GPU")
def test_without_a_device_there_is_no_report(tmp_path, capsys):
    import gpu_report
    assert gpu_report.main(["--out", str(tmp_path / "reports")]) == 1
    assert "about: FAILED" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def row(shape, dtype, **times):
    def found(t):
        return {"min_ms": t, "median_ms": t, "tflops": 1.0, "peak_bytes": 2**20} if isinstance(t, float) else {"absent": t}

    return {"shape": shape, "dtype": dtype, "candidates": {name: found(t) for name, t in times.items()},
            "parts": {"plan": {"ms": 0.5, "gb_per_s": 9.0}}}


SMALL, LARGE = [8192, 768, 256, 128, 8], [8192, 4096, 14336, 8, 2]


def test_goals():
    from gpu.goals import goals
    found = goals([row(SMALL, "bfloat16", tile=2.0, torch=3.0, floor=1.0), row(LARGE, "bfloat16", tile=10.0, torch=9.0, floor=8.0),
                   row(LARGE, "float32", tile=10.0, torch="torch is not installed", floor=1.0)])
    assert [(g.reached, g.found) for g in found] == [(True, "1.50 times torch's speed"), (False, "0.90 times torch's speed"),
                                                     (None, "torch: torch is not installed"), (True, "0.80 of them")]


def test_page():
    from gpu.markdown import page
    stages = {"about": {"ok": True, "seconds": 1, "device": "NVIDIA H200, CuPy 14.2.0", "name": "NVIDIA H200", "versions": {"numpy": "2.4.6"}},
              "memcheck": {"ok": True, "seconds": 0, "tool": "memcheck", "not_run": "compute-sanitizer is not there"},
              "verify": {"ok": False, "seconds": 9, "execution": "real", "executed": 7, "failed": 1, "weak": 0, "not_run_checks": 2,
                         "first_failures": ["topk-forward-float32-a: wrong"]},
              "bench": {"ok": True, "seconds": 9, "rows": [row(LARGE, "bfloat16", tile=10.0, torch=9.0, floor=8.0)]}}
    text = page({"date": "2026-11-25", "dry_run": False, "stages": stages})
    for line in ("# NVIDIA H200, 2026-11-25", "- numpy: 2.4.6", "| memcheck | not run: compute-sanitizer is not there | 0 |",
                 "| verify | FAILED; real: 7 checks executed, 1 failed, 0 weak, 2 not run | 9 |", "topk-forward-float32-a: wrong",
                 "- NOT REACHED: at least torch's speed: T, D, F, E, K = 8192, 4096, 14336, 8, 2, bfloat16 (0.90 times torch's speed)",
                 "- reached: at least 0.7 of cuBLAS's dense products: T, D, F, E, K = 8192, 4096, 14336, 8, 2, bfloat16 (0.80 of them)",
                 "| 8192, 4096, 14336, 8, 2 | bfloat16 | 10.00 / 10.00; 1.0; 1 MiB | not there | not there "
                 "| 9.00 / 9.00; 1.0; 1 MiB | 8.00 / 8.00; 1.0; 1 MiB | 0.90 | 0.80 |"):
        assert line in text


def test_numba_cuda_is_shown_with_its_goals():
    from gpu.markdown import page
    product = {**row(LARGE, "float32", **{"numba-cuda": 4.0, "cublas": 1.0}), "product": "tn"}
    layer = row(LARGE, "float32", **{"cupy": 6.0, "numba-cuda": 12.0, "numba-cuda, CuPy's memory": 10.0})
    found = {"ok": True, "seconds": 9, "launches": {"numba-cuda": 20.0, "Numba": 12.25, "cupy": 5.0}, "products": [product], "layers": [layer]}
    text = page({"date": "2026-11-25", "dry_run": False, "stages": {"bench-numba-cuda": found}})
    for line in ("- NOT REACHED: numba-cuda: at least 0.5 of cuBLAS's dense product: tn, T, D, F, E, K = 8192, 4096, 14336, 8, 2, float32 "
                 "(0.25 of it)",
                 "next to nothing: numba-cuda 20.0, Numba 12.2, cupy 5.0.",
                 "| tn: 8192, 4096, 14336, 8, 2 | float32 | 4.00 / 4.00; 1.0; 1 MiB | 1.00 / 1.00; 1.0; 1 MiB | 0.25 |",
                 "| 8192, 4096, 14336, 8, 2 | float32 | 6.00 / 6.00; 1.0; 1 MiB | 12.00 / 12.00; 1.0; 1 MiB | 10.00 / 10.00; 1.0; 1 MiB | 0.50 |"):
        assert line in text


@pytest.mark.parametrize(("absent", "dry_run"), [("numba", True), ("numba", False), ("numba_cuda", False)])
def test_without_numba_cuda_its_stages_are_not_run_and_say_why(absent, dry_run, monkeypatch):
    from gpu import bench_numba_cuda, numba_cuda, verify
    from gpu.markdown import page
    monkeypatch.setattr(numba_cuda, "find_spec", lambda name: None if name == absent else name)
    options = SimpleNamespace(argument="numba-cuda", dry_run=dry_run)
    stages = {name: {**work(options), "seconds": 0} for name, work in (("verify", verify.work), ("bench", bench_numba_cuda.work))}
    text = page({"date": "2026-11-25", "dry_run": dry_run, "stages": stages})
    for name, stage in stages.items():
        assert stage["ok"]
        assert f"| {name} | not run: {absent}: not installed (pip install 'moespec[numba-cuda13]', or numba-cuda12) | 0 |" in text


def test_the_name_of_the_report_is_the_devices():
    import gpu_report
    about = {"name": "NVIDIA H100 80GB HBM3"}
    assert gpu_report.file_name({"dry_run": False, "date": "2026-11-25", "stages": {"about": about}}) == "gpu-nvidia-h100-80gb-hbm3-2026-11-25.md"
