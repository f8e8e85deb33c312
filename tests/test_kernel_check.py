"""`conformance.check`: one kernel, as its author would hand it over."""

import json

import numpy as np
import pytest

from moespec import conformance
from moespec.cli import main
from moespec.conformance import Report, Result, check, read_known


def topk(scores, indices=None, *, k=None):
    """A right kernel in another form: a stable sort of Python keys."""
    if indices is not None:
        return indices
    key = np.where(np.isnan(scores.astype(float)), np.inf, scores.astype(float))
    nan = np.isnan(scores.astype(float))
    return np.stack([sorted(range(len(r)), key=lambda i, r=r, n=n: (not n[i], -r[i], i))[:k] for r, n in zip(key, nan, strict=True)]
                    ).astype(np.int64) if len(scores) else np.zeros((0, k), np.int64)


def test_a_right_forward_only_kernel_passes():
    report = check("gates.topk", forward=topk, dtypes=["float32", "float64"])
    assert report.ok
    assert report.executed > 500
    assert not [r for r in report.results if r.kind == "backward"]


def test_a_planted_tie_bug_is_found_and_told():
    def wrong(scores, indices=None, *, k=None):
        return scores.shape[1] - 1 - topk(scores[:, ::-1], k=k) if indices is None else indices
    with pytest.raises(AssertionError, match=r"topk-forward-float32-tie_lower_index_k1: indices\[0, 0\]: got 7, wanted 1"):
        check("gates.topk", forward=wrong, cases="tie_lower_index_k1")


@pytest.mark.parametrize(("dtypes", "named"), [("float32", "'f'"), (["float31"], "'float31'"), ([np.float32], "float32'>")])
def test_a_dtype_that_is_none_is_no_failure_of_the_kernel(dtypes, named):
    with pytest.raises(ValueError, match=f"no dtype is called .*{named}; wanted a list of some of float64, float32, float16, bfloat16"):
        check("gates.topk", forward=topk, dtypes=dtypes)


def test_dtypes_may_come_one_by_one():
    assert check("gates.topk", forward=topk, dtypes=(d for d in ["float32"]), cases="tie_lower_index_k1").ok


def test_int32_ids_and_any_order_are_lawful_if_declared():
    def reverse(scores, indices=None, *, k=None):
        return topk(scores, k=k)[:, ::-1].astype(np.int32) if indices is None else indices
    assert check("gates.topk", forward=reverse, ordered=False).ok
    assert not check("gates.topk", forward=reverse, raises=False).ok


def softmax(chosen):
    e = np.exp(chosen - chosen.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def unordered_topk_softmax(logits, indices=None, *, k=None):
    ids = topk(logits, indices, k=k)[:, ::-1]
    with np.errstate(all="ignore"):
        return {"weights": softmax(np.take_along_axis(logits, ids, 1)), "indices": ids}


def no_given_ids(**attrs):
    return None if attrs.get("k") else "takes no given selection"


def test_outputs_by_name_in_any_order_with_their_weights():
    report = check("gates.topk_softmax", forward=unordered_topk_softmax, ordered=False, supports=no_given_ids)
    assert report.ok
    skipped = [r for r in report.results if r.status == "skip"]
    assert skipped
    assert all("takes no given selection" in r.message for r in skipped)


def test_another_output_dtype_is_lawful_if_declared():
    def wide(logits):
        with np.errstate(all="ignore"):
            return softmax(logits.astype(np.float32)) if len(logits) else logits.astype(np.float32)
    assert check("gates.softmax", forward=wide, dtypes=["float16"], out_dtypes={"probs": "float32"}).ok
    assert "dtype float32, wanted float16" in check("gates.softmax", forward=wide, dtypes=["float16"], raises=False).failures[0].message


def test_a_kernel_that_returns_nonsense_fails_and_the_run_goes_on():
    for nonsense in (lambda scores, indices=None, k=None: None, lambda scores, indices=None, k=None: np.full((len(scores), k), 99),
                     lambda scores, indices=None, k=None: (1, 2)):
        report = check("gates.topk", forward=nonsense, cases="dyadic*", raises=False)
        assert len(report.failures) >= 3


def test_forward_and_backward():
    def forward(logits):
        p = softmax(logits) if len(logits) else logits
        return p, p

    def backward(p, d):
        return p * (d - (p * d).sum(1, keepdims=True))

    with np.errstate(all="ignore"):
        assert check("gates.softmax", forward=forward, backward=backward, deterministic=True).ok
        wrong = check("gates.softmax", forward=forward, backward=lambda p, d: p * d, raises=False)
    assert {r.kind for r in wrong.failures} == {"backward"}


def test_unknown_op_and_nothing_run():
    with pytest.raises(ValueError, match="check: no op is called 'gates.no'"):
        check("gates.no", forward=topk)
    with pytest.raises(AssertionError, match="no check was executed"):
        check("gates.topk", forward=topk, cases="nothing")


def failing():
    return Report("b", "d", results=[Result("gates.topk", "forward", "float32", c, s) for c, s in (("a", "fail"), ("b", "pass"))])


def test_known_failures_are_expected_and_stale_ones_are_errors(tmp_path):
    known = tmp_path / "known"
    known.write_text("# ours\ntopk-forward-float32-a   # ties\n\n")
    assert read_known(known) == ["topk-forward-float32-a"]
    report = failing().expect(read_known(known))
    assert report.ok
    assert [r.status for r in report.results] == ["xfail", "pass"]
    stale = failing().expect(["topk-forward-float32-*", "topk-forward-float32-b"])
    assert [r.id for r in stale.failures] == ["failures-stale---topk-forward-float32-b"]


def test_the_command_knows_failures_and_writes_html(tmp_path, capsys):
    known, page = tmp_path / "known", tmp_path / "r.html"
    known.write_text("topk-forward-float32-none\n")
    assert main(["verify", "numpy", "--op", "gates.topk", "--dtype", "float32", "--known-failures", str(known), "--report", str(page)]) == 1
    assert "no failure matches" in capsys.readouterr().out
    text = page.read_text()
    assert "TOPK-1" in text
    assert "gates.topk" in text
    assert "<script" not in text


def test_ids_in_a_report_are_unique():
    report = conformance.verify(op="gates.topk_softmax")
    ids = [r["id"] for r in json.loads(json.dumps(report.to_dict()))["results"]]
    assert len(ids) == len(set(ids))


def test_optional_inputs_and_attributes_that_a_kernel_does_not_know_are_not_run():
    """The signature that kernels have: six inputs, no biases, no limits."""
    from moespec.experts import moe, moe_backward

    def six(x, indices, weights, w_gate, w_up, w_down, *, activation="silu", rows=None):
        return moe(x, indices, weights, w_gate, w_up, w_down, activation=activation, rows=rows)

    report = check("experts.moe", forward=six, backward=lambda saved, dy: moe_backward(saved, dy)[:5])
    assert report.executed > 100
    skipped = [r.message for r in report.results if r.status == "skip"]
    assert any("positional" in m for m in skipped)
