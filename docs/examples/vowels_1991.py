"""The vowels of "Adaptive mixtures of local experts" (Jacobs, Jordan, Nowlan and Hinton 1991), trained with moespec.

Mixtures of 4 and 8 linear experts, under each of the paper's three losses, and back-propagation networks with 6 and 12
hidden units learn four vowels from their first two formants.  Every gradient comes from a backward function of moespec, except that of
the networks' sigmoid, which is written here.

    pip install 'moespec[examples]' && python vowels_1991.py --out .
"""

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moespec import experts, gates, losses, numerics

VOWELS = ("iy", "ih", "aa", "ah")                        # heed, hid, hod, hud: [i], [I], [a], [A] of the paper
NAMES = ("heed", "hid", "hod", "hud")
STEP, CRITERION, CAP = 1.0, 0.08, 6000
STEPS = (0.5, 1.0, 2.0, 4.0)
LOSSES = {"cooperation": losses.cooperation, "specialisation": losses.specialisation, "mixture_nll": losses.mixture_nll}
PULL = {"cooperation": losses.cooperation_backward, "specialisation": losses.specialisation_backward,
        "mixture_nll": losses.mixture_nll_backward}
EQUATION = {"cooperation": "1.1", "specialisation": "1.2", "mixture_nll": "1.3"}
PAPER = {"4 experts": ("1124 (23)", "88", "90"), "8 experts": ("1083 (12)", "88", "90"),
         "BP 6 hidden": ("2209 (83)", "88", "90"), "BP 12 hidden": ("2435 (124)", "88", "90")}


# ---- data ------------------------------------------------------------------------------------------------------------

def vowels():
    """(features [N, 2] in kHz, class [N], speaker [N], type of speaker [N]) of the four vowels."""
    import parselmouth
    table = parselmouth.praat.call("Create formant table (Peterson & Barney 1952)")
    head, *rows = (line.split("\t") for line in parselmouth.praat.call(table, "List", False).strip().splitlines())
    rows = [dict(zip(head, row, strict=True)) for row in rows if row[head.index("Vowel")] in VOWELS]
    x = np.array([[float(r["F1"]), float(r["F2"])] for r in rows]) / 1000
    return x, np.array([VOWELS.index(r["Vowel"]) for r in rows]), *(np.array([r[n] for r in rows]) for n in ("Speaker", "Type"))


def split(speaker, kind, rng):
    """True for the training tokens: two thirds of the speakers of each type (men, women, children)."""
    test = []
    for k in np.unique(kind):
        people = np.unique(speaker[kind == k])
        test += rng.permutation(people)[: len(people) // 3].tolist()
    return ~np.isin(speaker, test)


# ---- the two systems: start, forward, gradients ------------------------------------------------------------------------

def start(shapes, rng):
    """Parameters, uniform in -0.5 .. 0.5."""
    return {name: rng.uniform(-0.5, 0.5, shape) for name, shape in shapes.items()}


class Mixture:
    """n linear experts with softmax outputs over the classes, and a linear gate."""

    def __init__(self, n, loss):
        self.n, self.loss, self.name = n, loss, f"{n} experts"
        self.shapes = {"gate.w": (2, n), "gate.b": (n,), "experts.w": (n, 2, 4), "experts.b": (n, 4)}

    def forward(self, p, x):
        """(gate probabilities [T, E], expert outputs [T, E, 4], what backward needs)."""
        offsets = np.arange(self.n + 1) * len(x)
        logits, gate = gates.linear(x, p["gate.w"], p["gate.b"])
        probs, soft = gates.softmax(logits)
        scores, linear = experts.linear(np.tile(x, (self.n, 1)), offsets, p["experts.w"], p["experts.b"])
        classes, softs = gates.softmax(scores)
        outputs = classes.reshape(self.n, len(x), 4).swapaxes(0, 1)
        return probs, outputs, (logits, gate, soft, linear, softs)

    def predict(self, p, x):
        probs, outputs, _ = self.forward(p, x)
        return (probs[:, :, None] * outputs).sum(1)

    def step(self, p, x, target):
        """The blended output before the step, and the gradients."""
        probs, outputs, (logits, gate, soft, linear, softs) = self.forward(p, x)
        by_logits = self.loss == "mixture_nll"
        _, saved = LOSSES[self.loss](logits if by_logits else probs, outputs, target)
        dgate, doutputs = PULL[self.loss](saved, 1.0)
        dlogits = dgate if by_logits else gates.softmax_backward(soft, dgate)
        _, dw, db = gates.linear_backward(gate, dlogits)
        dscores = gates.softmax_backward(softs, doutputs.swapaxes(0, 1).reshape(-1, 4))
        _, dexperts, dbias = experts.linear_backward(linear, dscores)
        return (probs[:, :, None] * outputs).sum(1), {"gate.w": dw, "gate.b": db, "experts.w": dexperts, "experts.b": dbias}

    def used(self, p, x):
        """How many experts have a gate above 0.1 anywhere."""
        return int((self.forward(p, x)[0].max(0) > 0.1).sum())


class Net:
    """One hidden layer of sigmoids, a softmax over the classes, squared error times `share`: the losses see it as a mixture of one.

    With half the squared error its loss is that of a mixture likelihood (1.3) with one expert: the scale of the gradients is the same.
    """

    loss = "cooperation"

    def __init__(self, hidden, share=1.0):
        self.name, self.share = f"BP {hidden} hidden", share
        self.shapes = {"in.w": (2, hidden), "in.b": (hidden,), "out.w": (hidden, 4), "out.b": (4,)}

    def forward(self, p, x):
        before, first = gates.linear(x, p["in.w"], p["in.b"])
        hidden = numerics.sigmoid(before)
        scores, second = gates.linear(hidden, p["out.w"], p["out.b"])
        classes, soft = gates.softmax(scores)
        return classes, (first, hidden, second, soft)

    def predict(self, p, x):
        return self.forward(p, x)[0]

    def step(self, p, x, target):
        classes, (first, hidden, second, soft) = self.forward(p, x)
        _, saved = losses.cooperation(np.ones((len(x), 1)), classes[:, None, :], target)
        _, doutputs = losses.cooperation_backward(saved, self.share)
        dhidden, dw2, db2 = gates.linear_backward(second, gates.softmax_backward(soft, doutputs[:, 0]))
        _, dw1, db1 = gates.linear_backward(first, dhidden * hidden * (1 - hidden))      # the sigmoid's derivative: the script's own
        return classes, {"in.w": dw1, "in.b": db1, "out.w": dw2, "out.b": db2}

    def used(self, p, x):
        return None


# ---- training --------------------------------------------------------------------------------------------------------

def train(system, x, target, rng, cap, step=STEP):
    """Batch gradient descent to the criterion: (parameters, epochs, whether it was reached)."""
    p = start(system.shapes, rng)
    for epoch in range(cap):
        y, grads = system.step(p, x, target)
        if ((target - y) ** 2).mean() < CRITERION:
            return p, epoch, True
        p = {name: value - step * grads[name] for name, value in p.items()}
    return p, cap, False


def simulate(system, seed, cap, step=STEP):
    """One simulation: a split, a start, a training run."""
    x, label, speaker, kind = vowels()
    rng = np.random.default_rng(seed)
    fit = split(speaker, kind, rng)
    p, epochs, reached = train(system, x[fit], np.eye(4)[label[fit]], rng, cap, step)
    right = system.predict(p, x).argmax(1) == label
    return {"epochs": epochs, "reached": reached, "train": 100 * right[fit].mean(), "test": 100 * right[~fit].mean(),
            "used": system.used(p, x[fit]), "params": p, "fit": fit}


def systems():
    return [Mixture(n, loss) for loss in ("mixture_nll", "specialisation", "cooperation") for n in (4, 8)] + [Net(6), Net(12)]


def run_all(seeds, cap):
    """Results by (name, loss): a list over seeds."""
    return run({(s.name, s.loss): (s, STEP) for s in systems()}, seeds, cap)


def run_steps(seeds, cap):
    """Results by (name, step size), every system with gradients of the same scale."""
    compared = (Mixture(4, "mixture_nll"), Mixture(8, "mixture_nll"), Net(6, 0.5), Net(12, 0.5))
    return run({(s.name, step): (s, step) for s in compared for step in STEPS}, seeds, cap)


def run(wanted, seeds, cap):
    """A list over seeds for every (system, step size)."""
    found = {key: [None] * seeds for key in wanted}
    with ProcessPoolExecutor() as pool, Progress(console=Console(stderr=True), transient=True) as bar:
        jobs = {pool.submit(simulate, system, seed, cap, step): (key, seed) for key, (system, step) in wanted.items() for seed in range(seeds)}
        for job in bar.track(as_completed(jobs), total=len(jobs), description="training"):
            key, seed = jobs[job]
            found[key][seed] = job.result()
    return found


# ---- what is shown ---------------------------------------------------------------------------------------------------

def table(found):
    """The paper's table beside the measured one."""
    shown = Table(title=f"Peterson-Barney vowels, step size {STEP} for all, mean (sd) over {len(next(iter(found.values())))} simulations")
    for name in ("system", "loss", "epochs", "reached", "train %", "test %", "experts used", "paper: epochs", "train %", "test %"):
        shown.add_column(name, justify="left" if name in ("system", "loss") else "right")
    for (name, loss), runs in found.items():
        def stat(field, runs=runs):
            values, digits = np.array([r[field] for r in runs], float), 0 if field == "epochs" else 1
            return f"{values.mean():.{digits}f} ({values.std(ddof=min(1, len(values) - 1)):.{digits}f})"
        paper = PAPER[name] if loss == "mixture_nll" or name.startswith("BP") else ("", "", "")
        used = "" if runs[0]["used"] is None else stat("used")
        equation = "squared error" if name.startswith("BP") else f"{EQUATION[loss]} {loss}"
        shown.add_row(name, equation, stat("epochs"), f"{sum(r['reached'] for r in runs)}/{len(runs)}", stat("train"), stat("test"), used, *paper)
    return shown


def table_of_steps(found):
    """Epochs to the criterion at equal step size, and the paper's, whose step sizes are not known."""
    shown = Table(title="epochs to the criterion by step size, mean (sd) of the runs that reach it")
    for name in ("system", *(f"step {s:g}" for s in STEPS), "paper"):
        shown.add_column(name, justify="left" if name == "system" else "right")
    for name in dict.fromkeys(name for name, _ in found):
        shown.add_row(name, *(epochs(found[name, step]) for step in STEPS), PAPER[name][0])
    return shown


def epochs(runs):
    """Of the runs that reach the criterion; how many do, if not all."""
    reached = np.array([r["epochs"] for r in runs if r["reached"]], float)
    share = "" if len(reached) == len(runs) else f" {len(reached)}/{len(runs)}"
    return f"{reached.mean():.0f} ({reached.std(ddof=min(1, len(reached) - 1)):.0f}){share}" if len(reached) else share.strip()


def figure(found, path):
    """Decision regions of each loss with 4 experts, and which expert answers where."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap
    x, label, _, _ = vowels()
    f1, f2 = np.meshgrid(np.linspace(0.15, 1.35, 240), np.linspace(0.5, 3.8, 240))
    grid = np.stack([f1.ravel(), f2.ravel()], 1)
    colours = ("#3b6fb6", "#e08e2b", "#3f9b63", "#b8433f")
    fig, axes = plt.subplots(2, 3, figsize=(12, 7.4), sharex=True, sharey=True, layout="constrained")
    for column, loss in enumerate(("mixture_nll", "specialisation", "cooperation")):
        system, run = Mixture(4, loss), max(found["4 experts", loss], key=lambda r: r["used"])
        probs, _, _ = system.forward(run["params"], grid)
        classes, owner = system.predict(run["params"], grid).argmax(1), probs.argmax(1)
        top, bottom = axes[:, column]
        top.pcolormesh(f1, f2, classes.reshape(f1.shape), cmap=ListedColormap(colours), vmin=0, vmax=3, alpha=0.25, rasterized=True)
        for c, colour in enumerate(colours):
            top.scatter(*x[label == c].T, s=7, color=colour, label=NAMES[c], linewidths=0)
        top.set_title(f"{EQUATION[loss]} {loss.replace('_', ' ')}: vowel classes")
        bottom.pcolormesh(f1, f2, owner.reshape(f1.shape), cmap=ListedColormap(["#6c5b9e", "#d6a84b", "#5aa6a6", "#c96a7b"]), vmin=0, vmax=3,
                          alpha=0.55, rasterized=True)
        bottom.scatter(*x.T, s=4, color="0.25", linewidths=0)
        for e in np.unique(owner):
            bottom.annotate(f"expert {e + 1}", grid[owner == e].mean(0), ha="center", weight="bold")
        bottom.set_title("which expert answers (largest gate)")
        bottom.set_xlabel("F1 (kHz)")
    for axis in axes[:, 0]:
        axis.set_ylabel("F2 (kHz)")
    axes[0, 0].legend(loc="upper right", fontsize=8, markerscale=2)
    fig.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed, 200 epochs at most: does it run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write vowels_1991.png there")
    options = parser.parse_args()
    found = run_all(1, 200) if options.quick else run_all(options.seeds, CAP)
    Console(width=150).print(table(found))
    Console(width=150).print(table_of_steps(run_steps(1, 200) if options.quick else run_steps(options.seeds, CAP)))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        figure(found, options.out / "vowels_1991.png")


if __name__ == "__main__":
    main()
