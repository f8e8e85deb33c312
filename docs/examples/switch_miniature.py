"""The Switch Transformer's layer (Fedus, Zoph and Shazeer 2021) in miniature: capacity, the auxiliary loss, the router's precision.

A character model with 16 experts of 64 units, one for each character, in float32 at three capacity factors with and without the
auxiliary loss; then with experts in float16 or bfloat16, and the router in float32 ("selective precision") or as narrow as they are.

    pip install 'moespec[examples]' && python switch_miniature.py --out .
"""

from dataclasses import replace

import ml_dtypes  # noqa: F401  (teaches NumPy the name bfloat16)
import numpy as np
from _char_model import Model, evaluate, king_james, train
from _runs import curve, mean_sd, options, run_all, show, thin
from rich.table import Table

from moespec import models

EXPERTS, UNITS, STEPS, LAST, COEF = 16, 64, 300, 100, 0.01
SCALE = {"float32": 1.0, "float16": 1024.0, "bfloat16": 1.0}                # of the gradients that enter the mixture
# (capacity factor, coefficient of the auxiliary loss, dtype of the experts, dtype of the router)
CAPACITY = [(factor, coef, "float32", "float32") for coef in (COEF, 0.0) for factor in (1.0, 1.25, 2.0)]
PRECISION = [(1.25, COEF, *dtypes) for dtypes in (("float16", "float32"), ("float16", "float16"), ("bfloat16", "float32"), ("bfloat16", "bfloat16"))]
# negative log-perplexity a word piece after 100k steps: Table 1, Switch-Base; Table 2, 32 experts
PAPER = {CAPACITY[0]: -1.561, CAPACITY[1]: -1.553, CAPACITY[2]: -1.554, PRECISION[2]: -1.716, PRECISION[3]: -3.780}
COLUMNS = ("train", "test", "dropped", "largest", "balance", "elsewhere")


def declare(setting):
    """The layer of a setting; held-out text is read at capacity factor 2."""
    factor, coef, _, router = setting
    spec = models.switch2021(EXPERTS, UNITS, factor=factor, coef=coef)
    return replace(spec, router=replace(spec.router, dtype=router))


def simulate(setting, seed, steps):
    """Train under one setting; the measures are means over the last batches, the test is the held-out text."""
    text, dtype = king_james(), setting[2]
    model, rows = Model(declare(setting), len(text.alphabet), dtype, SCALE[dtype]), []
    for seen in train(model, text, seed, steps):
        kept, chosen = seen.out.routing.indices, seen.out.values["indices"]
        tokens = np.bincount(chosen.ravel(), minlength=EXPERTS)
        rows.append((seen.loss, (kept < 0).mean(), tokens.max() / tokens.mean(), float(seen.out.values["loss.load_balance"])))
    loss, outs = evaluate(model, text, seen.params)
    wide = evaluate(Model(declare((*setting[:2], "float32", "float32")), len(text.alphabet)), text, seen.params)[1]
    elsewhere = np.mean([(a.values["indices"] != b.values["indices"]).mean() for a, b in zip(outs, wide, strict=True)])
    means = np.mean(rows[-LAST:], 0)
    at, losses = thin([row[0] for row in rows], steps)
    _, dropped = thin([row[1] for row in rows], steps)
    values = (means[0], loss, 100 * means[1], means[2], means[3], 100 * elsewhere)
    return {**{name: round(float(v), 4) for name, v in zip(COLUMNS, values, strict=True)}, "at": at, "loss_over_training": losses,
            "dropped_over_training": dropped}


def table(found):
    shown = Table(title=f"losses in nats a character, mean (sd) over {len(next(iter(found.values())))} seeds")
    for name in ("capacity factor", "coefficient", "experts", "router", "training loss", "held-out loss", "dropped %", "max/mean tokens",
                 "auxiliary loss", "other expert than in float32 %", "paper: - loss"):
        shown.add_column(name, justify="right")
    for setting, runs in found.items():
        cells = [mean_sd(runs, name, 3 if name in ("train", "test") else 2) for name in COLUMNS]
        shown.add_row(*map(str, setting), *cells, str(PAPER.get(setting, "")))
    return shown


def figure(found, path):
    """Dropped tokens over training (band: the seeds), and by how much the mean loss in each precision differs from that in float32."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for setting in (s for s in CAPACITY if s in found):
        step, mean, low, high = curve(found[setting], "dropped_over_training")
        colour = {1.0: "#b8433f", 1.25: "#e08e2b", 2.0: "#3b6fb6"}[setting[0]]
        label = "factor {}, auxiliary loss {}".format(setting[0], "on" if setting[1] else "off")
        left.plot(step, 100 * mean, color=colour, linestyle="-" if setting[1] else "--", label=label)
        left.fill_between(step, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
    base = CAPACITY[1]
    for setting, colour in zip(PRECISION, ("#3b6fb6", "#6cace0", "#b8433f", "#e08e2b"), strict=True):
        if setting in found:
            step, mean, *_ = curve([{"at": a["at"], "gap": np.subtract(a["loss_over_training"], b["loss_over_training"])}
                                    for a, b in zip(found[setting], found[base], strict=True)], "gap")
            right.plot(step, mean, color=colour, label="experts {2}, router {3}".format(*setting))
    left.set(xlabel="training step", ylabel="dropped tokens (%)", title="tokens beyond the capacity", ylim=(0, 100))
    right.set(xlabel="training step", ylabel="loss - loss in float32 (nats)", title="what precision costs")
    right.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    left.legend(fontsize=8, ncols=2, loc="upper center")
    right.legend(fontsize=8)
    fig.savefig(path, dpi=80)


def main():
    given = options(__doc__, STEPS)
    settings = [CAPACITY[1], PRECISION[1]] if given.quick else CAPACITY + PRECISION
    found = run_all(simulate, settings, given.seeds, given.steps)
    show(given, "switch_miniature", found, table, figure, 190, experts=EXPERTS, units=UNITS)


if __name__ == "__main__":
    main()
