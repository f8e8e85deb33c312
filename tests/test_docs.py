"""What the pages and the docstrings show can be run, and does what they say."""

import doctest
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import moespec
from moespec import conformance
from moespec.registry import OPS

ROOT = Path(__file__).parent.parent
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [p for p in (*TOP, *sorted((ROOT / "docs").glob("*.md"))) if "```python" in p.read_text() and p.name != "start.md"]

EXAMPLES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (ROOT / "moespec").rglob("*.py") if ">>> " in p.read_text())


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_python_blocks_run_in_order(page):
    names = {"__name__": page.stem}
    if page.name == "design.md":
        exec("import numpy as np\nfrom moespec import gates\nlogits, dweights = np.ones((4, 8)), np.ones((4, 2))", names)
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)


def test_start_literally(tmp_path):
    """The first five minutes: its files are saved, its commands are run, and print what the page shows."""
    printed = None
    for language, text in re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "start.md").read_text(), re.DOTALL):
        if language == "python":
            (tmp_path / re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
        elif text.startswith(".venv/bin/python "):
            run = subprocess.run([sys.executable, *text.split()[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            printed = run.stdout + run.stderr
        elif language == "text":
            assert printed == text
    assert printed is not None


def test_the_operation_and_the_backend_of_contributing_are_right(monkeypatch):
    names = {"__name__": "contributing"}
    for block in blocks(ROOT / "CONTRIBUTING.md"):
        exec(block, names)
    monkeypatch.setitem(OPS, names["OP"].name, names["OP"])
    for report in (conformance.verify(op="losses.logit_square", dtypes=["float32", "bfloat16"]),
                   conformance.verify(names["BACKEND"], dtypes=["float32"])):
        assert report.ok, report.failures[0].message


def test_decisions_name_requirements_that_exist():
    named = re.findall(r"\b[A-Z][A-Z0-9_]*-\d+\b", (ROOT / "docs" / "decisions.md").read_text())
    assert set(named) - {r.id for op in OPS.values() for r in op.requirements} == set()


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_docstrings(module):
    tried = doctest.testmod(import_module(module))
    assert (tried.failed, tried.attempted > 0) == (0, True)


def test_every_public_name_says_what_it_is():
    modules = [moespec, *(import_module(f"moespec.{m.name}") for m in pkgutil.iter_modules(moespec.__path__) if not m.name.startswith("_"))]
    public = {f"{m.__name__}.{name}": getattr(m, name) for m in modules for name in getattr(m, "__all__", ())}
    public |= {f"{name}.{method}": f for name, c in list(public.items()) if inspect.isclass(c)
               for method, f in vars(c).items() if not method.startswith("_") and inspect.isfunction(f)}
    silent = [name for name, thing in public.items() if callable(thing) and not inspect.getdoc(thing)]
    assert (silent, [m.__name__ for m in modules if not m.__doc__]) == ([], [])


def test_links_lead_somewhere():
    for page in (*TOP, *(ROOT / "docs").rglob("*.md")):
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)           # kernel[grid](x) is no link
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
