"""The picture of `moespec cost`: two rooflines, of memory and of the network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

COLOURS = {"experts": "#c2410c", "gates": "#1d4ed8", "dispatch": "#0f766e", "losses": "#7c3aed"}
INK, ROOF, SOFT = "#111827", "#374151", "#9ca3af"
LABELLED = 6                     # steps of most operations that get a name


def plot(found, path: str):
    """Draw what `cost.report` found; the kind of file follows from the ending of `path`."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install 'moespec[plot]'") from None
    figure = Figure(figsize=(13.5, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    device = found["device"]
    figure.suptitle(f"{found['model']}, {found['tokens']} tokens, {found['dtype']}, {device['name']} (predicted from peaks)", color=INK, fontsize=13)
    _memory(left, found)
    _network(right, found)
    figure.savefig(path, dpi=110)


def _axes(axes, title, xlabel):
    from matplotlib.ticker import NullFormatter

    axes.set(xscale="log", yscale="log", title=title, xlabel=xlabel, ylabel="TFLOP/s at most")
    axes.title.set_fontsize(11)
    axes.grid(True, which="major", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_minor_formatter(NullFormatter())
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _roof(axes, flops, bandwidth, label, low, high, style="-"):
    x = np.geomspace(low, high, 200)
    axes.plot(x, np.minimum(flops, x * bandwidth) / 1e12, style, color=ROOF, linewidth=1.6, label=label, zorder=1)


def _memory(axes, found):
    """Every step at its operations per byte of memory, on the roof."""
    device = found["device"]
    _axes(axes, "One device", "FLOP per byte of memory")
    points = [_Point(_name(s), s[way]["intensity"], s[way]["flops"], COLOURS[s["op"].split(".")[0]], "o", way == "backward")
              for s in found["steps"] for way in ("forward", "backward")]
    others = [_Point(name, found[key][way]["intensity"], found[key][way]["flops"], colour, marker, way == "backward")
              for name, key, colour, marker in (("the layer", "layer", INK, "D"), ("dense, as wide", "dense", SOFT, "s"))
              for way in ("forward", "backward")]
    shown = [p for p in (*points, *others) if p.x > 1e-3]
    low, high = min([p.x for p in shown] + [0.5]) / 2, max([p.x for p in shown] + [device["balance"]["memory"]]) * 6
    _roof(axes, device["flops"], device["memory"], f"memory, {device['memory'] / 1e12:.3g} TB/s", low, high)
    axes.set_ylim(top=device["flops"] / 1e12 * 3)
    for p in shown:
        axes.plot(p.x, _under(device, p.x), p.marker, color=p.colour, markerfacecolor="none" if p.back else p.colour, markersize=8, zorder=3)
    most = sorted((p for p in points if not p.back and p.x > 1e-3), key=lambda p: -p.flops)[:LABELLED]
    for group in _near(most):
        _label(axes, device, group, below=True)
    for p in others:
        if not p.back and p.x > 1e-3:
            _label(axes, device, [p], below=False)
    for family in dict.fromkeys(s["op"].split(".")[0] for s in found["steps"]):
        axes.plot([], [], "o", color=COLOURS[family], label=family)
    axes.plot([], [], "o", color=SOFT, markerfacecolor="none", label="hollow: backward")
    axes.legend(loc="lower right", fontsize=9, frameon=False)


class _Point(NamedTuple):
    name: str
    x: float                    # FLOP per byte
    flops: float
    colour: str
    marker: str
    back: bool


def _name(step):
    where = "shared " if step["writes"].startswith("shared") else ""
    return where + step["op"].split(".")[1]


def _under(device, x):
    """The roof in TFLOP/s."""
    return min(device["flops"], x * device["memory"]) / 1e12


def _near(points):
    """Points that lie on each other, together: they share a label."""
    groups: list[list[_Point]] = []
    for p in sorted(points, key=lambda p: p.x):
        if groups and p.x < 1.3 * groups[-1][0].x:
            groups[-1].append(p)
        else:
            groups.append([p])
    return groups


def _label(axes, device, group, *, below):
    """Below the roof to the right, or above it to the left; where the roof is flat, hanging or standing."""
    x = group[-1 if below else 0].x
    flat = x * device["memory"] >= device["flops"]
    at = {(True, False): (8, -12), (True, True): (5, -9), (False, False): (-8, 8), (False, True): (0, 9)}[below, flat]
    how = {"rotation": -50, "rotation_mode": "anchor", "ha": "left", "va": "center"} if below and flat else {
        "ha": "center" if flat else "left" if below else "right"}
    axes.annotate(", ".join(dict.fromkeys(p.name for p in group)), (x, _under(device, x)), xytext=at, textcoords="offset points", fontsize=9,
                  color=group[-1].colour, **how)


def _network(axes, found):
    """Every number of ranks at its operations per byte of the network."""
    device, tokens = found["device"], found["tokens"]
    _axes(axes, "Experts spread over ranks", "FLOP per byte of network")
    points = []
    for row in found["ranks"]:
        for way in ("forward", "backward"):
            sent, times, flops = row["network_bytes_per_token"][way] * tokens, row[way], found["layer"][way]["flops"]
            if sent and flops and times["network"] is not None:
                points.append((row["ranks"], flops / sent, flops / max(times["compute"], times["network"]) / 1e12, way == "backward"))
    balances = [b for b in (device["balance"]["within"], device["balance"]["between"]) if b]
    low, high = min([p[1] for p in points] + balances) / 4, max([p[1] for p in points] + balances) * 4
    _roof(axes, device["flops"], device["within"], f"within a node, {device['within'] / 1e9:.4g} GB/s", low, high)
    if device["between"]:
        _roof(axes, device["flops"], device["between"], f"between nodes, {device['between'] / 1e9:.4g} GB/s", low, high, "--")
    for _, x, y, back in points:
        axes.plot(x, y, "o", color=COLOURS["experts"], markerfacecolor="none" if back else COLOURS["experts"], markersize=9, zorder=3)
    _ranks(axes, points)
    axes.set_ylim(bottom=min(axes.get_ylim()[0], device["flops"] / 1e12 / 40), top=device["flops"] / 1e12 * 2)
    axes.plot([], [], "o", color=COLOURS["experts"], label="the layer, forward, on so many ranks")
    axes.plot([], [], "o", color=COLOURS["experts"], markerfacecolor="none", label="backward")
    axes.legend(loc="lower right", fontsize=9, frameon=False)


def _ranks(axes, points):
    """The numbers of ranks above the points; those that lie together share a label."""
    groups: dict[tuple[float, float, bool], list[int]] = {}
    for ranks, x, y, back in points:
        near = next((key for key in groups if key[2] == back and abs(np.log(key[0] / x)) < 0.25 and abs(np.log(key[1] / y)) < 0.25), (x, y, back))
        groups.setdefault(near, []).append(ranks)
    for (x, y, _), found in groups.items():
        axes.annotate(", ".join(map(str, found)), (x, y), xytext=(-6, 8), textcoords="offset points", ha="right", fontsize=9, color=INK)
