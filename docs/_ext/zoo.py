"""The model zoo: every published layer in one table, and each in words, as a declaration, with its cost."""

from __future__ import annotations

from rst import WIDE, dropdown, heading, literal, plain, table, toctree

from moespec import cost, models
from moespec.cli._cost_tables import number
from moespec.cli._models import TOKENS


def page() -> str:
    """The text of the page."""
    families = sorted(models.FAMILIES)
    lines = WIDE + heading("The model zoo")
    lines += [f"{len(families)} public model families and {len(models.PAPERS)} layers of papers, each a declaration that forward, backward and cost",
              "read. Sizes are the defaults of the library's configuration classes (:doc:`which, and what was measured </models>`); a model's",
              "own ``config.json`` decides. Operations are counted per token and layer, multiply and add as two; the papers' layers are taken",
              "1024 wide.", ""]
    lines += heading("Public families", "-") + _table(families) + heading("Layers of papers", "-") + _table(models.PAPERS)
    lines += [*heading("One by one", "-"), "``moespec models NAME`` prints the same in the terminal.", ""]
    for name in (*families, *models.PAPERS):
        lines += _details(name)
    return "\n".join(lines + toctree(["/models"]))


def _table(names):
    return table(("model", "row", "experts", "chosen", "parameters", "met by a token", "flop forward"), [_row(n) for n in names], classes="zoo")


def _of(name):
    """(declaration, width, row, note) of an entry."""
    if name in models.FAMILIES:
        entry = models.FAMILIES[name]
        return entry.spec(), entry.d_model, entry.row, entry.note
    return models.PAPERS[name](), 1024, "", ""


def _row(name):
    spec, width, row, _ = _of(name)
    held, met = cost.parameters(spec, width)
    forward, _ = _flops(spec, width)
    return f":ref:`{name} <zoo-{name}>`", row, str(spec.experts.n), models.choices(spec), number(held), number(met), number(forward)


def _flops(spec, width):
    """Forward and backward, per token."""
    priced = cost.layer(spec, width, TOKENS)
    return priced.forward.flops / TOKENS, priced.backward.flops / TOKENS


def _details(name):
    spec, width, _, note = _of(name)
    forward, backward = _flops(spec, width)
    body = [f"| {plain(line)}" for line in models.words(spec)] + ["", *([plain(note), ""] if note else [])]
    body += [f"{width} wide: {forward:,.0f} flop forward and {backward:,.0f} backward per token.", ""]
    body += [".. code-block:: text", "", *(f"   {line}" for line in models.declared(spec)), ""]
    return [f".. _zoo-{name}:", "", *dropdown(literal(name), body)]
