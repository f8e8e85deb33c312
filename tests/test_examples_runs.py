"""The reproductions' scripts: every setting of each runs, on a small generated text; their measures against counts by hand."""

import json
from argparse import Namespace

import _char_model
import _runs
import loss_free
import numpy as np
import pytest
import shazeer_table6
import switch_miniature

SCRIPTS = (shazeer_table6, switch_miniature, loss_free)
SETTINGS = {shazeer_table6: list(shazeer_table6.PAPER), switch_miniature: switch_miniature.CAPACITY + switch_miniature.PRECISION,
            loss_free: loss_free.SETTINGS}


@pytest.fixture
def small(monkeypatch):
    """Twelve symbols that follow each other at random, read in small batches."""
    ids = np.random.default_rng(0).integers(0, 12, 3000)
    text = _char_model.Text(ids[:2000], ids[2000:], "abcdefghijkl")
    for script in SCRIPTS:
        monkeypatch.setattr(script, "king_james", lambda: text)
    for name, value in (("BATCH", 6), ("TIME", 8), ("TEST", 2)):
        monkeypatch.setattr(_char_model, name, value)


@pytest.mark.parametrize(("script", "setting"), [(s, setting) for s in SCRIPTS for setting in SETTINGS[s]],
                         ids=lambda p: p.__name__ if hasattr(p, "__name__") else "-".join(map(str, p)))
def test_every_setting_runs(small, script, setting):
    found = script.simulate(setting, 0, 3)
    assert all(np.isfinite(found[name]) for name in script.COLUMNS)
    assert found["at"] == [1, 2, 3]
    json.dumps(found)


def test_settings_without_a_loss_have_none():
    assert [loss.coef for loss in switch_miniature.declare(switch_miniature.CAPACITY[4]).losses] == [0.0]
    assert loss_free.declare(("loss-free", 0.01)).losses == ()
    assert loss_free.declare(("loss-free", 0.01)).router.correction
    assert not loss_free.declare(("auxiliary loss", 0.01)).router.correction


def test_selection_biases_move_by_the_rate(small):
    """From 0, after the first step: down for the experts above the mean load, up for those below."""
    text, setting = loss_free.king_james(), ("loss-free", 0.25)
    name, model = "moe.router.correction", _char_model.Model(loss_free.declare(setting), 12)
    steps = list(_char_model.train(model, text, 0, 3, after=lambda p, out: loss_free.moved(p, out, setting[1])))
    first, second = steps[0].params[name], steps[1].params[name]
    assert not first.any()
    tokens = loss_free.count(steps[0].out)
    np.testing.assert_array_equal(second, 0.25 * np.sign(tokens.mean() - tokens))


def test_the_largest_violation():
    assert loss_free.max_violation(np.array([1, 1, 2, 0])) == 1
    assert loss_free.max_violation(np.array([3, 3, 3])) == 0


def test_means_of_equal_stretches():
    assert _runs.thin(list(range(10)), 10, points=5) == ([2, 4, 6, 8, 10], [0.5, 2.5, 4.5, 6.5, 8.5])
    assert _runs.thin([4.0, 2.0], 2) == ([1, 2], [4.0, 2.0])


def test_over_the_seeds():
    runs = [{"a": 1.0, "at": [1, 2], "c": [0.0, 4.0]}, {"a": 3.0, "at": [1, 2], "c": [2.0, 2.0]}]
    assert _runs.mean_sd(runs, "a", 3) == "2.000 (1.414)"
    assert _runs.mean_sd(runs[:1], "a") == "1.00 (0.00)"
    step, mean, low, high = _runs.curve(runs, "c")
    assert (step.tolist(), mean.tolist(), low.tolist(), high.tolist()) == ([1, 2], [1, 3], [0, 2], [2, 4])


def test_a_report_is_json_by_setting(tmp_path):
    path = tmp_path / "new" / "report.json"
    _runs.write_report(path, {("a", 0.5): [{"test": 1.0}]}, 7, experts=3)
    found = json.loads(path.read_text())
    assert found["runs"] == {"a,0.5": [{"test": 1.0}]}
    assert (found["steps"], found["experts"]) == (7, 3)


def test_with_a_folder_the_report_and_the_figure_are_written(tmp_path, capsys):
    for folder in (None, tmp_path):
        found = {("a", 0.5): [{"test": 1.0}]}
        _runs.show(Namespace(out=folder, steps=7), "one", found, "a table of {}".format, lambda _, path: path.touch(), 80, k=2)
    assert capsys.readouterr().out.count("a table of {('a', 0.5): ") == 2
    assert json.loads((tmp_path / "one.json").read_text())["k"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"one.json", "one.png"}
