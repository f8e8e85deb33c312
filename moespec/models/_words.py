"""A declaration in words: one line for each thing it does, in the order of a token's walk."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

from moespec.layer import ExpertChoice, Given, Hierarchical, Soft

SCORES = {"softmax": "softmax(l)", "sigmoid": "sigmoid(l)", "sqrt_softplus": "sqrt(log(1 + exp(l)))", "none": "l"}


def words(spec) -> list[str]:
    """The lines."""
    lines = ROUTERS.get(type(spec.router), _token_choice)(spec, spec.router)
    lines += _capacity(spec.capacity) + _experts(spec) + _outside(spec)
    lines += [f"loss {loss.op} times {loss.coef:g}" + (", of the largest logits and their softmax" if loss.source == "logits" else "")
              for loss in spec.losses]
    return lines + (["tokens whose " + spec.pool.by + " is not 0 have a router and experts of their own"] if spec.pool else [])


def _token_choice(spec, router):
    n = spec.experts.classes
    return [_logits(router.net, n), *_noise(router), *_selection(router), *_weights(router)]


def _logits(net, n):
    if net.kind == "product_keys":
        return f"l = all sums of a key of one half and a key of the other, {n} pairs"
    if net.kind == "mlp":
        return f"l = W gelu(W2 gelu(W1 norm(W_in x{' + previous layer' if net.memory else ''}))), {net.hidden} wide, {n} logits"
    text = f"l = {'norm(x)' if net.norm else 'x'} W{' + b' if net.bias else ''}, {n} logits"
    text += f", times {net.multiplier:g}" if net.multiplier != 1 else ""
    return text + (f", capped: {net.cap:g} tanh(l / {net.cap:g})" if net.cap else "")


def _noise(router):
    found = [f"in training x times U(1 - {router.jitter:g}, 1 + {router.jitter:g}) for the "
             f"{'router and the experts' if router.jitter_to == 'both' else 'router'}"] if router.jitter else []
    return found + ([f"in training {router.noise} noise on l"] if router.noise else [])


def _selection(router):
    on = SCORES[router.score] if router.over == "all" else "l"
    how = {"topk": f"the {router.k} largest of c", "all": "every expert", "batchwise": "strictly balanced over the batch", "relu": "every l > 0",
           "sparsemixer": "SparseMixer: the largest, then the second, each with a probability among its near rivals",
           "top_p": f"the fewest of the largest s that sum to {router.p:g}, at most {router.k}", "assign": "balanced assignment over the batch",
           "sinkhorn": f"the {router.k} largest of a balanced transport plan",
           "table": f"{router.k} experts from a table, by token id"}[router.select]
    lines = [f"c = {on}{' + b' if router.correction else ''}"] if router.select == "topk" else []
    if router.groups:
        g = router.groups
        by = {"top2sum": "the sum of its two largest", "max": "its largest"}[g.reduce]
        lines.append(f"keep the best {g.keep} of {g.n} groups, each by {by} {'c' if g.base == 'biased' else 's'}; {g.fill} outside")
    return [*lines, f"choose {how}"]


def _weights(router):
    if router.select in ("batchwise", "sparsemixer", "relu"):
        weight = {"relu": "l", "sparsemixer": "those probabilities", "batchwise": "softmax(l) over the chosen"}[router.select]
        return [f"w = {weight}"]
    chosen = SCORES[router.score] + (" of the chosen" if router.over == "all" else " over the chosen")
    norm = {"none": "", "sum": f" / (sum + {router.eps:g})" if router.eps else " / sum", "clamp": f" / max(sum, {router.eps:g})",
            "lp": f" / their {router.p:g}-norm"}[router.norm]
    scale = f"{router.scale:g} " if router.scale != 1 and router.scale_at == "weights" else ""
    text = f"w = {scale}{chosen}{norm}"
    text += ", times a learned scale" if router.learned_scale else ""
    text += ", times a learned scale of the expert" if router.expert_scale else ""
    return [text, *(["w multiplies the expert's input"] if router.weigh == "input" else []),
            *([f"the routed sum times {router.scale:g}"] if router.scale != 1 and router.scale_at == "sum" else [])]


def _hierarchical(spec, router):
    return [f"two levels: {router.primary.k} of {router.groups} groups by softmax over the chosen, then {router.secondary.k} experts in each",
            "the weights of the two levels multiply"]


def _expert_choice(spec, router):
    where = "batch row" if router.scope == "row" else "batch"
    return [_logits(router.net, spec.experts.n), f"every expert takes its {router.factor:g} T / {spec.experts.n} tokens of the {where} with the "
            f"largest s = {SCORES[router.score]}", "w = s"]


def _soft(spec, router):
    where = "batch row" if router.scope == "row" else "batch"
    unit = "unit " if router.normalize else ""
    return [f"l = {unit}x {unit}W, {router.slots} slots of every expert", f"a slot is softmax(l) over the tokens of the {where} times x",
            "y = softmax(l) over the slots times their outputs"]


def _given(spec, router):
    table = f"row of a table of {router.vocab}" if router.vocab else "expert itself"
    return [f"{router.by} gives the {table}; every weight is 1"]


ROUTERS = {Hierarchical: _hierarchical, ExpertChoice: _expert_choice, Soft: _soft, Given: _given}


def _capacity(rule):
    if rule is None:
        return []
    size = f"{rule.fixed} tokens" if rule.fixed is not None else f"factor {rule.factor:g} by formula {rule.formula!r}"
    what = "goes to the next best expert" if rule.reroute else "is dropped"
    return [f"an expert takes {size} per {'batch row' if rule.scope == 'row' else 'batch'}, in order {rule.order!r}; what is over {what}"]


def _unit(e):
    if e.kind == "linear":
        return "x W"
    if e.kind == "singleton":
        return f"{e.activation}(u . x) v"
    if e.kind == "ffn":
        return f"{e.activation}(x W_in) W_out"
    c, gate, up = e.clamp, "g", "u"
    if c.limit is not None:
        gate, up = f"min(g, {c.limit:g})" if c.at == "pre" else "g", f"clip(u, {c.limit:g})"
    act = f"{gate} sigmoid({c.alpha:g} {gate})" if c.alpha else f"{e.activation}({gate})"
    act = f"min({act}, {c.limit:g})" if c.limit is not None and c.at == "post" else act
    act = f"cap{c.cap_gate:g}(g) sigmoid(g)" if c.cap_gate else act
    up = f"cap{c.cap_up:g}({up})" if c.cap_up else up
    up = f"({up} + {c.up_offset:g})" if c.up_offset else up
    return f"({act} * {up}) W_down, g = x W_gate, u = x W_up"


def _experts(spec):
    e = spec.experts
    latent = f", in a latent space of {e.latent.width}{' (normed)' if e.latent.norm else ''}" if e.latent else ""
    size = f", {e.width} wide" if e.width else ""
    lines = [f"{e.n} experts{size}{latent}: {_unit(e)}{', with biases' if e.bias else ''}{', normed' if e.norm else ''}"]
    for count, what in ((e.copies, "return the token"), (e.constants, "mix the token with a vector"), (e.zeros, "return nothing")):
        lines += [f"{count} more that {what}"] if count else []
    return lines


def _outside(spec):
    how = {None: "added", "sigmoid": "times sigmoid(x v), added", "router": "weighted by the router together with the chosen"}
    lines = [f"{'' if s.n == 1 else f'{s.n} '}shared expert{'s' if s.n > 1 else ''}, {s.width} wide, {how[s.gate]}: {_unit(s)}" for s in spec.shared]
    lines += ["(routed + shared) / 2"] if spec.combine == "mean" else []
    lines += ["the layer's output is normed"] if spec.norm else []
    return lines + (["a bias on the output"] if spec.output_bias else [])


def declared(part, prefix: str = "") -> list[str]:
    """A declaration field by field: those that differ from their defaults, and those that have none."""
    lines = []
    for f in fields(part):
        value, name = getattr(part, f.name), f"{prefix}{f.name}"
        if f.default is not MISSING and value == f.default:
            continue
        if is_dataclass(value):
            lines += [f"{name}: {type(value).__name__}", *declared(value, f"{name}.")]
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for n, item in enumerate(value):
                lines += [f"{name}.{n}: {type(item).__name__}", *declared(item, f"{name}.{n}.")]
        else:
            lines.append(f"{name} = {value!r}")
    return lines


def choices(spec) -> str:
    """How many experts a token has, in words."""
    if isinstance(spec.router, ExpertChoice):
        return f"{spec.router.factor:g} a token on average"
    if isinstance(spec.router, Soft):
        return f"{spec.router.slots} slots each"
    most = {"all": "all", "relu": "any number", "top_p": f"at most {spec.router.k}"}.get(getattr(spec.router, "select", ""), str(spec.router.k))
    return f"{most} a token"
