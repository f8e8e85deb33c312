"""Table 6 of "Outrageously large neural networks" (Shazeer et al. 2017) in miniature: what the two balancing losses do.

A character model with 64 experts of 32 units, 4 of them for each character, trained under the table's six settings of w_importance and
w_load.  The paper's models have 256 experts, words, and 10 passes over a billion of them.

    pip install 'moespec[examples]' && python shazeer_table6.py --out .
"""

import numpy as np
from _char_model import Model, evaluate, king_james, train
from _runs import curve, mean_sd, options, run_all, show, thin
from rich.table import Table

from moespec import losses, models

EXPERTS, UNITS, K, STEPS, LAST = 64, 32, 4, 400, 100
# (w_importance, w_load): the paper's perplexity, CV(Importance), CV(Load), max/mean load
PAPER = {(0.0, 0.0): (39.8, 3.04, 3.01, 17.80), (0.2, 0.0): (35.6, 0.06, 0.17, 1.47), (0.0, 0.2): (35.7, 0.22, 0.04, 1.15),
         (0.1, 0.1): (35.6, 0.06, 0.05, 1.14), (0.01, 0.01): (35.7, 0.48, 0.11, 1.37), (1.0, 1.0): (35.7, 0.03, 0.02, 1.07)}
COLUMNS = ("perplexity", "cv_importance", "cv_load", "max_load", "max_tokens")


def measure(out):
    """CV(Importance), CV(Load), max/mean load, max/mean number of tokens, and the tokens of every expert."""
    values = out.values
    (load, _), _ = losses.load(values["clean"], values["sigma"], values["logits"], k=K)
    tokens = np.bincount(out.routing.indices.ravel(), minlength=EXPERTS)
    cv = [float(values[f"loss.{name}"]) ** 0.5 for name in ("importance_cv2", "load_cv2")]
    return (*cv, float(load.max() / load.mean()), tokens.max() / tokens.mean()), tokens


def simulate(setting, seed, steps):
    """Train under one setting; the measures are means over the last batches, the perplexity is the held-out text's."""
    text, (w_importance, w_load) = king_james(), setting
    model = Model(models.shazeer2017(EXPERTS, UNITS, K, w_importance=w_importance, w_load=w_load), len(text.alphabet), squash=True)
    rows, tokens = [], []
    for seen in train(model, text, seed, steps):
        row, counts = measure(seen.out)
        rows.append(row)
        tokens.append(counts)
    loss, _ = evaluate(model, text, seen.params)
    at, maximum = thin([row[2] for row in rows], steps)
    shares = np.sort(np.sum(tokens[-LAST:], 0))[::-1] / np.mean(np.sum(tokens[-LAST:], 0))
    means = np.mean(rows[-LAST:], 0).round(4).tolist()
    return {**dict(zip(COLUMNS, (round(np.exp(loss), 4), *means), strict=True)), "at": at, "max_load_over_training": maximum,
            "share_of_experts": shares.round(3).tolist()}


def table(found):
    shown = Table(title=f"mean (sd) over {len(next(iter(found.values())))} seeds | the paper's Table 6")
    for name in ("w_importance", "w_load", "perplexity", "CV(Imp)", "CV(Load)", "max/mean load", "max/mean tokens",
                 "paper: perplexity", "CV(Imp)", "CV(Load)", "max/mean load"):
        shown.add_column(name, justify="right")
    for setting, runs in found.items():
        shown.add_row(*map(str, setting), *(mean_sd(runs, name) for name in COLUMNS), *map(str, PAPER[setting]))
    return shown


def figure(found, path):
    """The largest load over training, and the tokens of every expert at its end."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for (setting, runs), colour in zip(found.items(), ("#b8433f", "#e08e2b", "#5aa6a6", "#3f9b63", "#3b6fb6", "#6c5b9e"), strict=False):
        step, mean, low, high = curve(runs, "max_load_over_training")
        label = "w_importance {}, w_load {}".format(*setting)
        left.plot(step, mean, color=colour, label=label)
        left.fill_between(step, low, high, color=colour, alpha=0.2, linewidth=0)
        right.plot(np.arange(1, EXPERTS + 1), np.mean([run["share_of_experts"] for run in runs], 0), color=colour, label=label)
    left.set(xlabel="training step", ylabel="max / mean load", title="the largest load", ylim=(0, None))
    right.set(xlabel="expert, from the busiest to the idlest", ylabel="tokens / mean", title=f"tokens over the last {LAST} batches", ylim=(0, None))
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
    fig.savefig(path, dpi=80)


def main():
    given = options(__doc__, STEPS)
    found = run_all(simulate, list(PAPER)[:2] if given.quick else PAPER, given.seeds, given.steps)
    show(given, "shazeer_table6", found, table, figure, 170, experts=EXPERTS, units=UNITS, k=K)


if __name__ == "__main__":
    main()
