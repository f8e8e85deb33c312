"""`moespec models`: the published layers, and what one of them is."""

from __future__ import annotations

import json

from moespec import cost, models
from moespec.layer import LayerSpec

TOKENS = 4096                    # enough for what is paid once a batch to vanish


def add_to(commands):
    """The command and its options."""
    parser = commands.add_parser("models", help="list the published layers, or print the declaration of one, in words and in numbers")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--layer", type=int, default=0, help="of a family whose layers differ (default 0)")
    parser.add_argument("--json", action="store_true", help="the declaration alone")
    parser.set_defaults(run=_models)


def _models(options):
    if options.name is None:
        return _list()
    spec, d_model, entry = find(options.name, options.layer)
    if options.json:
        print(json.dumps(spec.to_dict(), indent=1))
        return 0
    print(describe(options.name, spec, d_model, entry))
    return 0


def _list():
    for name, entry in sorted(models.FAMILIES.items()):
        spec = entry.spec()
        print(f"{name:24} {entry.row:14} {spec.experts.n} experts, {models.choices(spec)}")
    for name, make in models.PAPERS.items():
        spec = make()
        print(f"{name:24} {'paper':14} {spec.experts.n} experts, {models.choices(spec)}")
    return 0


def find(name, layer):
    """The declaration of a layer, its width, and its entry in the table of families (None: a paper's)."""
    if name in models.FAMILIES:
        entry = models.FAMILIES[name]
        return entry.spec(layer=layer), entry.d_model, entry
    if name in models.PAPERS:
        return models.PAPERS[name](), 1024, None
    raise ValueError(f"no model is called {name!r}; `moespec models` lists them")


def describe(name: str, spec: LayerSpec, d_model: int, entry: models.Family | None) -> str:
    """The page of one layer: declaration, words, cost."""
    lines = [name, "=" * len(name), "", *models.words(spec)]
    if entry is not None and entry.note:
        lines += ["", entry.note]
    lines += ["", "Declaration", "-----------", *models.declared(spec)]
    held, met = cost.parameters(spec, d_model)
    priced = cost.layer(spec, d_model, TOKENS)
    forward, backward = priced.forward.flops / TOKENS, priced.backward.flops / TOKENS
    lines += ["", f"Cost per token, {d_model} wide", "-" * 30,
              f"{forward:,.0f} flop forward, {backward:,.0f} backward; {held:,} parameters, {met:,} met by a token", ""]
    found = ((line.step.op, line.forward.flops / TOKENS, line.backward.flops / TOKENS) for line in priced.lines)
    lines += [f"  {op:24} {there:16,.0f} {back:16,.0f}" for op, there, back in found if there + back >= 1]
    return "\n".join(lines)
