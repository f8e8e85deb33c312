"""Fitting loops: what never falls, closed forms, and optima found by somebody else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from moespec import fit


def two_regimes(seed, rows=120, noise=0.05):
    """Inputs are uniform on a square; which line holds depends on the second feature."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (rows, 2))
    second = x[:, 1] > 0.1
    y = np.where(second, 2 * x[:, 0] + 1, -x[:, 0])[:, None] + noise * rng.standard_normal((rows, 1))
    return x, y, second


# ---- what never falls ------------------------------------------------------------------------------------------------

def never_falls(history):
    return (np.diff(history) >= -1e-10 * (1 + np.abs(history[1:]))).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1,), (3,), (2, 2), (1, 3)]), st.sampled_from([None, 3]), st.sampled_from([1e-6, 1e-2, 1.0]),
       st.booleans())
def test_em_never_lowers_the_penalised_likelihood(seed, branching, classes, ridge, gaussian):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 2)) * 10.0 ** rng.integers(-1, 2)
    y = rng.integers(0, classes, 20) if classes else rng.standard_normal((20, 2)) + x[:, :1] * rng.standard_normal(2)
    options = {"classes": classes, "ridge": ridge, "iterations": 12, "tolerance": 0, "rng": seed}
    found = fit.gaussian_em(x, y, int(np.prod(branching)), **options) if gaussian else fit.hme_em(x, y, branching, **options)
    assert np.isfinite(found.history).all()
    assert never_falls(found.history)


def test_the_objective_is_the_one_that_is_written_down():
    """J of `hme_em`, by scipy's densities."""
    x, y, _ = two_regimes(0, 40)
    found = fit.hme_em(x, y, (2,), ridge=0.3, floor=0.02, iterations=5, rng=0)
    v, w, lam = (found.params[n] for n in ("gate.w", "experts.w", "experts.log_precisions"))
    one = np.hstack([np.ones((40, 1)), x])
    density = np.stack([stats.norm.pdf(y[:, 0], one @ w[i][:, 0], np.exp(-lam[i] / 2)) for i in range(2)], axis=1)
    fits = np.log((special.softmax(one @ v, axis=1) * density).sum(1)).sum()
    prior = sum(lam[i] / 2 - np.exp(lam[i]) / 2 * (0.3 * (w[i] ** 2).sum() + 0.02 * y.var()) for i in range(2)) - 0.15 * (v**2).sum()
    assert found.history[-1] == pytest.approx(fits + prior, rel=1e-12)
    assert found.log_likelihood(x, y) == pytest.approx(fits / 40, rel=1e-12)


# ---- optima ----------------------------------------------------------------------------------------------------------

CASES = {"flat": ((2,), "tree", None), "tree": ((2, 2), "tree", None), "gaussian": ((2,), "gaussian", None), "labels": ((2,), "tree", 2)}


def em_of(case, x, y, **options):
    branching, gate, classes = CASES[case]
    if gate == "gaussian":
        return fit.gaussian_em(x, y, branching[0], classes=classes, **options)
    return fit.hme_em(x, y, branching, classes=classes, **options)


def data_of(case, rows=80):
    x, y, _ = two_regimes(1, rows)
    return x, (y[:, 0] > 0).astype(int) if CASES[case][2] else y


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_the_penalised_likelihood_are_its_differences(case):
    x, y = data_of(case, 30)
    branching, gate, classes = CASES[case]
    start = em_of(case, x, y, iterations=1, ridge=0.1, rng=3).params
    model = fit.gradient(x, y, branching, gate=gate, classes=classes, ridge=0.1, start=start, iterations=1).model
    _, grads = model.objective(start, x, y)
    for name, array in start.items():
        for i in np.ndindex(array.shape):
            moved = [{**start, name: array + h * (np.arange(array.size) == np.ravel_multi_index(i, array.shape)).reshape(array.shape)}
                     for h in (1e-5, -1e-5)]
            slope = (model.objective(moved[0], x, y)[0] - model.objective(moved[1], x, y)[0]) / 2e-5
            assert grads[name][i] == pytest.approx(slope, rel=1e-5, abs=1e-4), (name, i)


@pytest.mark.parametrize("case", CASES)
def test_where_em_ends_gradient_ascent_stays(case):
    """Two different ways to climb the same hill end on the same top."""
    x, y = data_of(case)
    branching, gate, classes = CASES[case]
    em = em_of(case, x, y, ridge=0.1, iterations=300, tolerance=1e-12, rng=0)
    on = fit.gradient(x, y, branching, gate=gate, classes=classes, ridge=0.1, start=em.params)
    assert on.history[0] == pytest.approx(em.history[-1], rel=1e-12)
    assert 0 <= on.history[-1] - em.history[-1] < 1e-4 * (1 + abs(em.history[-1]))
    np.testing.assert_allclose(on.predict(x), em.predict(x), atol=0.02)


def test_one_expert_is_least_squares():
    x, y, _ = two_regimes(2)
    y = np.hstack([y, x @ [[1.0], [3.0]]])
    one = np.hstack([np.ones((len(x), 1)), x])
    want, *_ = np.linalg.lstsq(one, y, rcond=None)
    for found in (fit.hme_em(x, y, (1,), ridge=1e-12, floor=1e-9), fit.gaussian_em(x, y, 1, ridge=1e-12, floor=1e-9)):
        np.testing.assert_allclose(found.params["experts.w"][0], want, atol=1e-9)
        squares = ((y - one @ want) ** 2).sum()
        assert np.exp(-found.params["experts.log_precisions"][0]) == pytest.approx(squares / (2 * len(x) + 1), rel=1e-6)


def test_one_classifier_is_logistic_regression():
    x, y = data_of("labels")
    found = fit.hme_em(x, y, (1,), classes=2, ridge=0.2, tolerance=1e-14)
    one, sign = np.hstack([np.ones((len(x), 1)), x]), 2 * y - 1
    want = optimize.minimize(lambda w: np.logaddexp(0, -sign * (one @ w)).sum() + 0.05 * w @ w, np.zeros(3), tol=1e-12).x      # 0.2 |w/2|^2
    np.testing.assert_allclose(found.params["experts.w"][0] @ [-1, 1], want, atol=1e-5)


def test_one_gaussian_is_the_mean_and_the_variances():
    x, y, _ = two_regimes(3)
    found = fit.gaussian_em(x, y, 1, ridge=1e-12, floor=1e-9)
    np.testing.assert_allclose(found.params["gate.means"][0], x.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.exp(-found.params["gate.log_precisions"][0]), x.var(0) * len(x) / (len(x) + 1), rtol=1e-6)


def test_a_tree_with_doubled_leaves_predicts_as_the_flat_mixture():
    x, y, _ = two_regimes(4)
    flat = fit.hme_em(x, y, (2,), rng=0)
    doubled = {"gate.w": np.hstack([flat.params["gate.w"], np.zeros((3, 4))]), "experts.w": np.repeat(flat.params["experts.w"], 2, axis=0),
               "experts.log_precisions": np.repeat(flat.params["experts.log_precisions"], 2)}
    tree = fit.Fit(fit.hme_em(x, y, (2, 2), iterations=1).model, doubled, flat.history, True)
    np.testing.assert_allclose(tree.predict(x), flat.predict(x), atol=1e-12)
    assert tree.log_likelihood(x, y) == pytest.approx(flat.log_likelihood(x, y), rel=1e-12)
    np.testing.assert_allclose(tree.posterior(x, y).reshape(-1, 2, 2).sum(2), flat.posterior(x, y), atol=1e-12)


# ---- what the partition sees -----------------------------------------------------------------------------------------

def agreement(own, truth):
    """Share of rows in the right regime, whatever the regimes are called."""
    return max((own == truth).mean(), (own != truth).mean())


def test_the_gate_finds_the_regimes_that_clusters_of_the_inputs_do_not():
    """Two clouds of inputs, left and right; the regimes are up and down."""
    rng = np.random.default_rng(5)
    x = np.stack([rng.choice([-2, 2], 200) + 0.3 * rng.standard_normal(200), rng.uniform(-1, 1, 200)], axis=1)
    second = x[:, 1] > 0.1
    y = np.where(second, 2 * x[:, 0] + 1, -x[:, 0])[:, None] + 0.05 * rng.standard_normal((200, 1))
    gated, clusters = fit.hme_em(x, y, (2,), restarts=3, rng=0), fit.cluster_first(x, y, 2, rng=0)
    assert agreement(gated.posterior(x, y).argmax(1), second) > 0.95
    assert agreement(clusters.assign(x), second) < 0.6
    assert ((gated.predict(x) - y) ** 2).mean() < ((clusters.predict(x) - y) ** 2).mean() / 3


def test_clusters_that_are_the_regimes_are_as_good():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(-5, 0.5, (40, 1)), rng.normal(5, 0.5, (40, 1))])
    y = np.where(x < 0, 3 * x + 1, -2 * x)
    found = fit.cluster_first(x, y, 2, ridge=1e-9, rng=0)
    np.testing.assert_allclose(found.predict(x, hard=True), y, atol=1e-6)
    np.testing.assert_allclose(found.predict(x), y, atol=1e-6)
    np.testing.assert_allclose(found.weights(x).sum(1), 1, atol=1e-12)


def test_an_average_of_linear_experts_is_one_linear_expert():
    x, y, _ = two_regimes(7)
    one = np.hstack([np.ones((len(x), 1)), x])
    average = fit.gradient(x, y, (4,), gate="equal", loss="cooperation", ridge=1e-6, rng=0)
    np.testing.assert_allclose(average.predict(x), one @ np.linalg.lstsq(one, y, rcond=None)[0], atol=1e-3)


# ---- degenerate cases ------------------------------------------------------------------------------------------------

def test_a_variance_stops_at_its_floor():
    """Targets on two lines without noise: the likelihood would grow without bound."""
    x, y, _ = two_regimes(8, noise=0.0)
    found = fit.hme_em(x, y, (2,), floor=1e-4, ridge=1e-6, restarts=2, rng=0)
    least = 1e-4 * y.var() / (len(x) + 1)
    assert (np.exp(-found.params["experts.log_precisions"]) >= least).all()
    assert np.isfinite(found.history).all()
    assert ((found.predict(x) - y) ** 2).mean() < 1e-2


def test_classes_that_can_be_separated_keep_finite_weights():
    x = np.linspace(-1, 1, 20)[:, None]
    found = fit.hme_em(x, (x[:, 0] > 0).astype(int), (2,), classes=2, rng=0)
    assert all(np.isfinite(a).all() for a in found.params.values())
    assert ((found.predict(x).argmax(1) == 1) == (x[:, 0] > 0)).all()


@pytest.mark.parametrize("scale", [1e6, 1e9, 1e99])
@pytest.mark.parametrize("case", ["flat", "tree", "labels"])
def test_inputs_that_nobody_has_scaled(case, scale):
    """Seconds since 1970, say: gates and classes are sure of nearly every row, and what is left of their curvature is small differences."""
    for seed in range(2):
        x, y = data_of(case, 30)
        found = em_of(case, scale * x, y, iterations=20, rng=seed)
        assert np.isfinite(found.history).all()
        assert never_falls(found.history)


@pytest.mark.parametrize("fitted", [lambda x, y: fit.hme_em(x, y, (4,), ridge=1e-6, rng=0),
                                    lambda x, y: fit.gaussian_em(x, y, 4, ridge=1e-6, rng=0)])
def test_fewer_rows_than_experts_and_constant_columns(fitted):
    x, y = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 3.0]]), np.full((3, 1), 5.0)
    found = fitted(x, y)
    assert never_falls(found.history)
    np.testing.assert_allclose(found.predict(x), y, atol=1e-3)


BAD = np.array([[0.0], [np.nan]])
GOOD = np.array([[0.0], [1.0]])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fit.hme_em(BAD, GOOD, (2,)), r"hme_em: x holds nan in row 1, column 0 \(shape \(2, 1\)\)"),
    (lambda: fit.gaussian_em(GOOD, BAD, 2), r"gaussian_em: y holds nan in row 1"),
    (lambda: fit.gradient(GOOD, GOOD[:1], (2,)), r"gradient: y has shape \(1, 1\), but x has 2 rows"),
    (lambda: fit.hme_em(GOOD, np.array([0, 3]), (2,), classes=3), r"hme_em: y holds 0 \.\. 3, outside 0 \.\. 2"),
    (lambda: fit.hme_em(GOOD, GOOD, (2,), classes=2), r"hme_em: labels must be integers"),
    (lambda: fit.hme_em(GOOD[:, 0], GOOD, (2,)), r"hme_em: x must be real with 2 dimensions, got float64 with shape \(2,\)"),
    (lambda: fit.hme_em(GOOD[:0], GOOD[:0], (2,)), r"hme_em: no rows to fit \(x has shape \(0, 1\)\)"),
    (lambda: fit.hme_em(GOOD, GOOD, (2,), ridge=0), r"hme_em: ridge=0 must be above 0"),
    (lambda: fit.hme_em(GOOD, GOOD, (0,)), r"hme_em: branching=\(0,\) must be numbers of children, each at least 1"),
    (lambda: fit.gradient(GOOD, GOOD, (2,), gate="soft"), r"gradient: gate='soft' is none of tree, gaussian, equal"),
    (lambda: fit.gradient(GOOD, GOOD, (2,), loss="hinge"), r"gradient: loss='hinge' is none of likelihood"),
    (lambda: fit.gradient(GOOD, np.array([0, 1]), (2,), loss="cooperation", classes=2), r"gradient: loss='cooperation' is of real targets"),
    (lambda: fit.gradient(GOOD, GOOD, (2,), start={}), r"gradient: start has gate.w of shape \(\), wanted \(2, 2\)"),
    (lambda: fit.cluster_first(np.ones((5, 1)), np.ones((5, 1)), 2), r"cluster_first: n=2 exceeds the 1 different rows of x"),
    (lambda: fit.cluster_first(GOOD, GOOD, 1, spread=0), r"cluster_first: spread=0 must be above 0"),
    (lambda: fit.nearest_neighbours(GOOD, GOOD, k=3), r"nearest_neighbours: k=3 must be in 1 \.\. 2"),
    (lambda: fit.polynomial(GOOD, GOOD, -1), r"polynomial: degree=-1 must be a whole number, at least 0"),
    (lambda: fit.polynomial(GOOD, GOOD, 1).predict(BAD), r"polynomial: x holds nan in row 1"),
    (lambda: fit.nearest_neighbours(1e200 * GOOD, GOOD, k=1), r"nearest_neighbours: x holds 1e\+200 in row 1.*, wanted numbers within 1e\+100"),
    (lambda: fit.hme_em(GOOD, GOOD[:, :0], (2,)), r"hme_em: y has shape \(2, 0\), wanted at least 1 columns"),
    (lambda: fit.gaussian_em(GOOD, None, 2), r"gaussian_em: y must be real with 2 dimensions, got object with shape \(\)"),
    (lambda: fit.hme_em(GOOD, GOOD, 2), r"hme_em: branching=2 must be numbers of children"),
    (lambda: fit.hme_em(GOOD, GOOD, (2.0,)), r"hme_em: branching=\(2\.0,\) must be numbers of children"),
    (lambda: fit.gaussian_em(GOOD, GOOD, 2.5), r"gaussian_em: experts=2\.5 must be a whole number, at least 1"),
    (lambda: fit.gaussian_em(GOOD, GOOD, 2, restarts=1.5), r"gaussian_em: restarts=1\.5 must be a whole number, at least 1"),
    (lambda: fit.hme_em(GOOD, np.array([0, 1]), (2,), classes=0), r"hme_em: classes=0 must be a whole number, at least 1"),
    (lambda: fit.hme_em(GOOD, GOOD, (2,), floor=np.inf), r"hme_em: floor=inf must be above 0 and finite"),
    (lambda: fit.hme_em(GOOD, GOOD, (2,), tolerance=np.nan), r"hme_em: tolerance=nan must be at least 0"),
    (lambda: fit.gradient(GOOD, GOOD, (1,), start={"gate.w": [[np.nan], [0]], "experts.w": np.zeros((1, 2, 1)), "experts.log_precisions": [0]}),
     r"gradient: start has values in gate.w that are not finite \(shape \(2, 1\)\)"),
])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("fitted", [lambda x, y: fit.hme_em(x, y, (2,), iterations=1), lambda x, y: fit.gradient(x, y, (2,), iterations=1),
                                    lambda x, y: fit.gaussian_em(x, y, 2, iterations=1), lambda x, y: fit.cluster_first(x, y, 2, rng=0),
                                    lambda x, y: fit.nearest_neighbours(x, y, k=1), lambda x, y: fit.polynomial(x, y, 0)])
def test_other_columns_than_were_fitted_are_refused(fitted):
    """Also where they would broadcast: one column to two, or a constant."""
    x, y, _ = two_regimes(12, 20)
    found = fitted(x, y)
    for name in {"predict", "assign", "weights", "gate"} & set(dir(found)):
        with pytest.raises(ValueError, match=r"^\w+: x has shape \(20, 1\), wanted 2 columns"):
            getattr(found, name)(x[:, :1])
    for name in {"posterior", "log_likelihood"} & set(dir(found)):
        with pytest.raises(ValueError, match=r"^\w+: x has shape \(20, 1\), wanted 2 columns"):
            getattr(found, name)(x[:, :1], y)


# ---- the two ends, and the bar ---------------------------------------------------------------------------------------

def test_the_nearest_case_is_the_case_itself_and_all_of_them_the_mean():
    x, y, _ = two_regimes(9, 30)
    np.testing.assert_array_equal(fit.nearest_neighbours(x, y, k=1).predict(x), y)
    np.testing.assert_allclose(fit.nearest_neighbours(x, y, k=30).predict(x), np.tile(y.mean(0), (30, 1)), atol=1e-14)


def test_a_polynomial_of_its_own_degree_is_found():
    x = np.random.default_rng(10).uniform(-1, 1, (40, 2))
    y = (1 + x[:, :1] * x[:, 1:] ** 2 - 2 * x[:, :1] ** 3)
    np.testing.assert_allclose(fit.polynomial(x, y, 3, ridge=1e-14).predict(x), y, atol=1e-8)


def test_the_bar_changes_nothing(capsys):
    x, y, _ = two_regimes(11, 30)
    for fitted in (fit.hme_em, fit.gradient):
        quiet, shown = (fitted(x, y, (2,), iterations=5, rng=0, progress=p) for p in (False, True))
        np.testing.assert_array_equal(quiet.history, shown.history)
    assert not capsys.readouterr().out
