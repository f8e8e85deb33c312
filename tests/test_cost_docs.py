"""What docs/cost.md tabulates is what the code says."""

import re
from pathlib import Path

from moespec import cost, models
from moespec.cli import main
from moespec.registry import OPS

PAGE = (Path(__file__).parent.parent / "docs" / "cost.md").read_text()


def rows(pattern):
    return [tuple(cell.strip() for cell in row) for row in re.findall(pattern, PAGE, re.MULTILINE)]


def test_formulas_of_operations():
    shown = {name: formulas for name, *formulas in rows(r"^\| `(\w+\.\w+)` \| ([^|]*) \| ([^|]*) \|$")}
    assert shown == {name: list(cost.formula(OPS[name])) for name in shown}
    for name in ("deepseek_v3", "mixtral", "gpt_oss", "llama4"):
        assert {step.op for step in models.FAMILIES[name].spec().program(64, training=True)} <= set(shown)


def test_figures_of_devices():
    shown = rows(r"^\| `([\w-]+)` " + r"\| ([^|]*) " * 8 + r"\|$")
    found = []
    for d in cost.DEVICES.values():
        numbers = [d.flops.get(t, 0) / 1e12 for t in ("bfloat16", "float32", "float64")]
        numbers += [(x or 0) / 1e9 for x in (d.memory, d.within, d.between)]
        found.append((d.name, *(f"{n:g}" if n else "-" for n in numbers), str(d.per_node), d.source))
    assert shown == found


def test_layouts():
    shown = {name.removesuffix(" (m = 1)"): formulas for name, *formulas in rows(r"^\| ([a-z][a-z +]*(?: \(m = 1\))?) \| ([^|]*) \| ([^|]*) \|$")}
    for layout in cost.layouts(models.switch2021(8, 16), 8, 64, 8):
        assert [text.replace("the same", layout.formula[0]) for text in shown[layout.name]] == [
            text.replace("the same", layout.formula[0]) for text in layout.formula]


def test_keys_of_the_json():
    report = cost.report("mixtral", models.mixtral(), 4096, 64, ranks=(8,), device=cost.device("h100"), cores=8)
    shown = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## JSON"):]))
    assert set(report) <= shown
    for part in (report["ranks"][0], report["steps"][0], report["layouts"][0], report["device"], report["parameters"], report["layer"]["forward"],
                 report["ranks"][0]["forward"]):
        assert set(part) <= shown


def test_the_page_of_an_op_says_its_cost(capsys):
    assert main(["ops", "experts.glu"]) == 0
    assert "6 N D F + 5 N F FLOP forward, 12 N D F + 15 N F backward" in capsys.readouterr().out
