"""The table op x backend x execution."""

import json

import pytest

from moespec.cli import main
from moespec.conformance.report import Report, Result
from moespec.conformance.saved import save


def report(execution, statuses, date="2026-01-02"):
    results = [Result("gates.topk", "forward", "float32", f"c{i}", s) for i, s in enumerate(statuses)]
    return Report("acme", "a card", results=results, execution=execution, date=date)


@pytest.fixture
def standing(tmp_path):
    def run(*reports):
        save(list(reports), tmp_path / "new.json")
        main(["standing", str(tmp_path / "new.json"), "--record", str(tmp_path / "record.json"), "--out", str(tmp_path / "page.md")])
        return (tmp_path / "page.md").read_text()
    return run


def test_a_kind_of_run_is_a_column_of_its_own(standing):
    page = standing(report("emulated", ["pass", "pass", "skip"]), report("real", ["pass", "fail", "weak"]))
    assert "| op | acme, real | acme, emulated |" in page
    assert "| `gates.topk` | 1 of 3 failed | 2 |" in page
    assert "**acme, real**: a card, 2026-01-02: 3 checks, 1 failed" in page
    assert "| `gates.softmax` |  |  |" in page


def test_a_new_report_replaces_its_own_predecessor_only(standing, tmp_path):
    standing(report("emulated", ["pass"]), report("real", ["fail"]))
    page = standing(report("real", ["pass", "pass"], "2026-03-04"))
    assert "| `gates.topk` | 2 | 1 |" in page
    assert "2026-03-04" in page
    assert "2026-01-02" in page
    assert len(json.loads((tmp_path / "record.json").read_text())) == 2


def test_requirements_have_a_record_of_their_own(tmp_path):
    results = [Result("gates.topk", "requirement", "float32", f"c{i}", s, requirement=r)
               for i, (s, r) in enumerate([("pass", "TOPK-1"), ("fail", "TOPK-1"), ("pass", "TOPK-2"), ("skip", "TOPK-3")])]
    save([Report("acme", "a card", results=results, date="2026-01-02")], tmp_path / "new.json")
    main(["standing", str(tmp_path / "new.json"), "--record", str(tmp_path / "record.json"), "--out", str(tmp_path / "page.md"),
          "--requirements", str(tmp_path / "requirements.json")])
    (entry,) = json.loads((tmp_path / "requirements.json").read_text())
    assert entry["requirements"] == {"float32": {"TOPK-1": "1 of 2 failed", "TOPK-2": "1"}}
    assert (entry["backend"], entry["execution"], entry["date"]) == ("acme", "real", "2026-01-02")


@pytest.mark.parametrize(("text", "message"), [
    ("{}", "record.json is no record of where backends stand"), ('[{"backend": "acme"}]', "no record"), ("nonsense", "record.json is no JSON"),
    ('[{"backend": "acme", "execution": "dreamt", "ops": {}}]', "a run is real, emulated, compiled, not dreamt")])
def test_a_file_that_is_no_record_is_refused_and_left_alone(text, message, tmp_path, capsys):
    save([report("real", ["pass"])], tmp_path / "new.json")
    (tmp_path / "record.json").write_text(text)
    assert main(["standing", str(tmp_path / "new.json"), "--record", str(tmp_path / "record.json"), "--out", str(tmp_path / "page.md")]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "record.json").read_text() == text
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize("text", ["[]", '{"format": 2}', '{"format": 2, "reports": [{"backend": "acme"}]}', '{"format": 2, "reports": [3]}'])
def test_a_file_that_is_no_report_is_refused(text, tmp_path, capsys):
    (tmp_path / "new.json").write_text(text)
    assert main(["report", str(tmp_path / "new.json"), "--out", str(tmp_path / "page.md")]) == 2
    assert "new.json is no report of format 2" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
