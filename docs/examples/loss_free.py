"""Balancing without a loss (Wang et al. 2024) beside the auxiliary loss, in miniature: MaxVio and the loss of the model.

A character model with 32 gated experts of 32 units, 4 of them for each character, sigmoid scores.  Either the balance loss of Switch is
added with a coefficient, or after every step the selection biases move by a fixed amount against the load (`gates.bias_sign`).
MaxVio is the largest load over the mean load, minus 1.

    pip install 'moespec[examples]' && python loss_free.py --out .
"""

from functools import partial

import numpy as np
from _char_model import Model, evaluate, king_james, train
from _runs import curve, mean_sd, options, run_all, show, thin
from rich.table import Table

from moespec import Experts, LayerSpec, Loss, Router, gates

EXPERTS, UNITS, K, STEPS, LAST = 32, 32, 4, 300, 100
SETTINGS = [("auxiliary loss", 0.0), ("auxiliary loss", 0.001), ("auxiliary loss", 0.01), ("auxiliary loss", 0.1),
            ("loss-free", 0.001), ("loss-free", 0.01)]
# perplexity and MaxVio over the test set, 1 billion parameters: the paper's baseline, which has the auxiliary loss, and its own method
PAPER = {SETTINGS[1]: (9.56, 0.72), SETTINGS[4]: (9.50, 0.04)}
COLUMNS = ("train", "test", "violation", "violation_on_test")


def declare(setting):
    """The layer of a setting: with a selection bias, or with the loss."""
    how, amount = setting
    balance = () if how == "loss-free" else (Loss("losses.load_balance", amount),)
    return LayerSpec(router=Router(k=K, score="sigmoid", correction=how == "loss-free"), experts=Experts(EXPERTS, UNITS), losses=balance)


def count(out):
    return np.bincount(out.routing.indices.ravel(), minlength=EXPERTS)


def max_violation(tokens):
    return tokens.max() / tokens.mean() - 1


def moved(params, out, rate):
    """The selection biases after a step."""
    name = "moe.router.correction"
    return {name: gates.bias_sign(params[name], count(out), rate=rate)[0]}


def simulate(setting, seed, steps):
    """Train under one setting: MaxVio of every batch, and of the whole held-out text at the end."""
    text, after = king_james(), partial(moved, rate=setting[1]) if setting[0] == "loss-free" else None
    model, rows = Model(declare(setting), len(text.alphabet)), []
    for seen in train(model, text, seed, steps, after=after):
        rows.append((seen.loss, max_violation(count(seen.out))))
    loss, outs = evaluate(model, text, seen.params)
    means = np.mean(rows[-LAST:], 0)
    at, violation = thin([row[1] for row in rows], steps)
    values = (means[0], loss, means[1], max_violation(sum(map(count, outs))))
    return {**{name: round(float(v), 4) for name, v in zip(COLUMNS, values, strict=True)}, "at": at, "violation_over_training": violation}


def table(found):
    shown = Table(title=f"losses in nats a character, mean (sd) over {len(next(iter(found.values())))} seeds")
    for name in ("balanced by", "coefficient / rate", "training loss", "held-out loss", "MaxVio of a batch", "MaxVio of the held-out text",
                 "paper: perplexity", "MaxVio global"):
        shown.add_column(name, justify="right")
    for setting, runs in found.items():
        cells = [mean_sd(runs, name, 3 if name in ("train", "test") else 2) for name in COLUMNS]
        shown.add_row(setting[0] if setting[1] else "nothing", str(setting[1] or ""), *cells, *map(str, PAPER.get(setting, ("", ""))))
    return shown


def figure(found, path):
    """MaxVio over training, and where each setting ends: balance against loss."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    colours = dict(zip(SETTINGS, ("0.4", "#e0b46c", "#e08e2b", "#b8433f", "#6cace0", "#3b6fb6"), strict=True))
    for setting, runs in found.items():
        step, mean, low, high = curve(runs, "violation_over_training")
        label = "{} {}".format(*setting) if setting[1] else "nothing"
        left.plot(step, mean, color=colours[setting], label=label)
        left.fill_between(step, low, high, color=colours[setting], alpha=0.15, linewidth=0)
        right.scatter([run["violation_on_test"] for run in runs], [run["test"] for run in runs], color=colours[setting], label=label, s=24)
    left.set(xlabel="training step", ylabel="MaxVio of the batch", title="balance over training", ylim=(0, 8))
    right.set(xlabel="MaxVio of the held-out text", ylabel="held-out loss (nats)", title="balance against loss, one point a seed", xlim=(0, None))
    left.legend(fontsize=8, ncols=2, loc="upper center")
    fig.savefig(path, dpi=80)


def main():
    given = options(__doc__, STEPS)
    found = run_all(simulate, SETTINGS[2:5:2] if given.quick else SETTINGS, given.seeds, given.steps)
    show(given, "loss_free", found, table, figure, 150, experts=EXPERTS, units=UNITS, k=K)


if __name__ == "__main__":
    main()
