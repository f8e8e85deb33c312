"""The cost of a layer: operations against counted ones, bytes against arrays of a real run, sums by hand."""

import math

import numpy as np
import pytest
from layer_specs import SPECS, D, prepared

from moespec import cost, dispatch, experts, gates, layer, models
from moespec.registry import OPS

PUBLISHED = {n: (f.spec(), f.d_model) for n, f in models.FAMILIES.items()} | {n: (make(), 1024) for n, make in models.PAPERS.items()}


class Counting(np.ndarray):
    """An array that counts what is done with it: 2 for a multiply-add of a product of matrices, 1 for a sum or product of two numbers."""

    matrix = elementwise = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [np.asarray(a) if isinstance(a, Counting) else a for a in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            Counting.matrix += 2 * result.size * plain[0].shape[-1]
        elif method == "__call__" and ufunc in (np.add, np.multiply):
            Counting.elementwise += result.size
        return result.view(Counting) if isinstance(result, np.ndarray) else result

    def __array_function__(self, func, types, args, kwargs):
        result = super().__array_function__(func, types, args, kwargs)
        return result.view(Counting) if isinstance(result, np.ndarray) else result


def counted(op, forward, backward, *inputs, **attrs):
    """(matrix, elementwise) operations of forward and of backward, and the op's dimensions."""
    inputs = [np.asarray(a).view(Counting) if np.asarray(a).dtype.kind == "f" else a for a in inputs]
    found = []
    Counting.matrix = Counting.elementwise = 0
    y, saved = forward(*inputs, **attrs)
    found.append((Counting.matrix, Counting.elementwise))
    Counting.matrix = Counting.elementwise = 0
    backward(saved, y.view(Counting))
    found.append((Counting.matrix, Counting.elementwise))
    return found, vars(op.bind(*(np.asarray(a) for a in inputs), *(None,) * (len(op.inputs) - len(inputs))))


RNG = np.random.default_rng(0)
OFFSETS = np.array([0, 5, 5, 9])
MATRICES = {
    "glu": (experts.glu, experts.glu_backward, (RNG.normal(size=(9, 4)), OFFSETS, *RNG.normal(size=(2, 3, 4, 7)), RNG.normal(size=(3, 7, 4))), 6),
    "ffn": (experts.ffn, experts.ffn_backward, (RNG.normal(size=(9, 4)), OFFSETS, RNG.normal(size=(3, 4, 7)), RNG.normal(size=(3, 7, 4))), 4),
    "linear": (experts.linear, experts.linear_backward, (RNG.normal(size=(9, 4)), OFFSETS, RNG.normal(size=(3, 4, 7))), 2),
}


@pytest.mark.parametrize("name", MATRICES)
def test_products_of_experts_are_those_of_the_formula(name):
    """The leading term is what the reference multiplies; the rest is at most the declared handful per hidden unit."""
    forward, backward, inputs, factor = MATRICES[name]
    op = OPS[f"experts.{name}"]
    ((there, _), (back, _)), dims = counted(op, forward, backward, *inputs)
    n, d, f = dims["N"], dims["D"], dims["F"]
    assert (there, back) == (factor * n * d * f, 2 * factor * n * d * f)
    declared = op.flops(**dims)
    assert 0 <= declared[0] - there <= 5 * n * f
    assert 0 <= declared[1] - back <= 15 * n * f


def test_the_routers_matrix():
    x, w = RNG.normal(size=(6, 4)), RNG.normal(size=(4, 5))
    ((there, _), (back, _)), dims = counted(OPS["gates.linear"], gates.linear, gates.linear_backward, x, w, dtype="float64")
    assert (there, back) == OPS["gates.linear"].flops(**dims) == (2 * 6 * 4 * 5, 4 * 6 * 4 * 5)


def test_combine_multiplies_and_adds_every_choice():
    rows, weights, row = RNG.normal(size=(12, 3)), RNG.normal(size=(6, 2)), RNG.permutation(12).reshape(6, 2)
    ((_, there), _), dims = counted(OPS["dispatch.combine"], dispatch.combine, dispatch.combine_backward, rows, weights, row)
    assert there == OPS["dispatch.combine"].flops(**dims)[0] == 2 * 6 * 2 * 3


def test_moe_by_hand():
    """T K rows of three matrices, and its own steps priced one by one."""
    t, k, d, f = 5, 2, 4, 7
    ids = np.argsort(RNG.random((t, 3)), axis=1)[:, :k]
    inputs = (RNG.normal(size=(t, d)), ids, RNG.normal(size=(t, k)), *RNG.normal(size=(2, 3, d, f)), RNG.normal(size=(3, f, d)))
    ((there, _), (back, _)), dims = counted(OPS["experts.moe"], experts.moe, experts.moe_backward, *inputs)
    assert (there, back) == (t * k * 6 * d * f, t * k * 12 * d * f)
    forward, backward = OPS["experts.moe"].flops(**dims)
    assert forward == t * k * (6 * d * f + 5 * f + 2 * d)
    assert backward - back == t * k * (15 * f + 4 * d)


def test_a_formula_is_what_it_evaluates_to():
    for name, op in OPS.items():
        for text, value in zip(cost.formula(op), op.flops(**LETTERS), strict=True):
            terms = text.split(" + ")
            total = sum(math.prod(_factor(word) for word in term.split()) for term in terms)
            assert total == value, name


def test_a_composite_costs_what_its_steps_cost():
    block = OPS["experts.moe_block"]
    steps = [OPS[s.op].flops(**LETTERS) for s in block.line({}, k=2) if OPS[s.op].flops]
    assert block.flops(**LETTERS) == tuple(map(sum, zip(*steps, strict=True)))


LETTERS = {"T": 3, "D": 5, "E": 7, "K": 11, "F": 13, "N": 17, "C": 19, "S": 23, "A": 29, "G": 31, "M": 37, "n": 41, "m": 43, "experts": 47,
           "iterations": 53}


def _factor(word):
    if word.isdigit():
        return int(word)
    name, _, power = word.partition("^")
    return LETTERS[name] ** int(power or 1)


# ---- bytes ---------------------------------------------------------------------------------------------------------

def ran(name):
    """A layer that really ran in float32 on twelve tokens: its spec, trace and parameters."""
    params, x, given, _ = prepared(SPECS[name], tokens=(12,))
    params = {n: p.astype(np.float32) if p.dtype.kind == "f" else p for n, p in params.items()}
    given["noise"] = {n: a.astype(np.float32) for n, a in given["noise"].items()}
    given["context"] = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in given["context"].items()}
    _, saved = layer.forward(SPECS[name], params, x.astype(np.float32), **given, keep="all")
    return SPECS[name], saved.trace, params


class Measured:
    """Bytes of a real run: rows of experts count where they are live, parameters of experts where these have rows."""

    def __init__(self, trace, params):
        self.trace, self.params = trace, params
        plan = next((s for s in trace.steps if s.op == "dispatch.plan"), None)
        self.rows = self.live = None
        if plan is not None:
            token, _, self.offsets = (trace.values[n] for n in plan.writes.split())
            self.rows, self.live = len(token), int(self.offsets[-1])

    @property
    def routing(self):
        """What `cost.layer` is given: ids, or rows per expert; None for a soft layer."""
        return self.trace.values.get("indices") if self.rows is None else np.diff(self.offsets)

    def size(self, array, arg=None, name=""):
        if array is None:
            return 0
        if self.routing is not None and name.startswith("experts.") and arg.shape.startswith("E") and array.ndim > 1:
            hit = self.routing > 0 if self.rows is not None else np.bincount(self.routing.ravel(), minlength=len(array)) > 0
            return array.nbytes // len(array) * min(int(hit.sum()), len(array))
        if arg is not None and arg.shape.startswith("N") and len(array) == self.rows:
            return array.nbytes // self.rows * self.live
        return array.nbytes

    def gradients(self, step, saved):
        """Bytes that the op's own backward returns, for inputs that were given."""
        op, names = OPS[step.op], step.reads.split()
        found = op.backward(saved, *(np.ones_like(self.trace.values[n]) for a, n in zip(op.outputs, step.writes.split(), strict=True)
                                     if a.kind == "real"))
        reads = dict(zip((a.name for a in op.inputs), names, strict=False))
        pairs = zip(op.grads, found if isinstance(found, tuple) else (found,), strict=True)
        return sum(self.size(d, a, reads.get(a.name, "-")) for a, d in pairs if reads.get(a.name, "-") != "-")

    def named(self, name):
        """Bytes of a value, its dead rows left out."""
        return next((self.size(self.trace.values[name], a, n) for s in self.trace.steps
                     for a, n in zip(OPS[s.op].outputs, s.writes.split(), strict=True) if n == name), self.trace.values[name].nbytes)

    def line(self, step, saved):
        """Bytes read, written, and what is kept: {id of memory: bytes}."""
        op, values, own = OPS[step.op], self.trace.values, step.writes.split()
        reads = [(a, n) for a, n in zip(op.inputs, step.reads.split(), strict=False) if n not in own and a.name != "like"]
        read = sum(self.size(values[n], a, n) for a, n in reads)
        written = sum(self.size(values[n], a) for a, n in zip(op.outputs, own, strict=True))
        inner = [a for a in arrays(saved) if not any(np.shares_memory(a, v) for v in values.values() if v is not None)]
        extra = sum(a.nbytes if len(a) != self.rows or step.op.startswith("gates") else a.nbytes // self.rows * self.live for a in inner)
        kept = {n for _, n in reads if any(np.shares_memory(values[n], a) for a in arrays(saved)) and values[n] is not None}
        kept |= {n for n in own if any(np.shares_memory(values[n], a) for a in arrays(saved))}
        return read, written, extra, kept - set(self.params)


def arrays(saved):
    """Arrays of more than one number in nested records."""
    if isinstance(saved, np.ndarray):
        return [saved] if saved.size > 1 else []
    parts = saved.values() if isinstance(saved, dict) else saved if isinstance(saved, (tuple, list)) else getattr(saved, "__dict__", {}).values()
    return [a for part in parts for a in arrays(part)]


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if spec.pool is None])
def test_bytes_are_those_of_the_arrays(name):
    spec, trace, params = ran(name)
    real = Measured(trace, params)
    priced = cost.layer(spec, D, 12, routing=real.routing)
    kept = {}
    for line, step, saved in zip(priced.lines, trace.steps, trace.saved, strict=True):
        read, written, inner, names = real.line(step, saved)
        assert (line.forward.read, line.forward.written) == (read, written + (inner if line.backward.bytes else 0)), step
        if line.backward.bytes:
            assert line.backward.written == real.gradients(step, saved), step
            kept |= dict.fromkeys(names, 0) | {id(saved): inner}
    assert priced.saved == sum(n if isinstance(name, int) else real.named(name) for name, n in kept.items())


def test_backward_reads_cotangents_and_what_was_kept_and_writes_gradients():
    """One glu step by hand, in bfloat16: two hidden arrays are kept in float32."""
    t, k, n, d, f = 6, 2, 4, 8, 16
    spec = layer.LayerSpec(layer.Router(k=k), layer.Experts(n, f))
    priced = cost.layer(spec, d, t, dtype="bfloat16", routing=[3, 0, 4, 5])
    (line,) = [line for line in priced.lines if line.step.op == "experts.glu"]
    rows, weights, hidden = t * k * d * 2, 3 * (3 * d * f) * 2, 2 * t * k * f * 4
    assert line.forward == (t * k * (6 * d * f + 5 * f), rows + 8 * (n + 1) + weights, rows + hidden)
    assert line.backward == (t * k * (12 * d * f + 15 * f), rows + rows + weights + hidden, rows + weights)
    assert line.saved == rows + hidden


def test_inference_keeps_nothing():
    spec, d = PUBLISHED["mixtral"]
    priced = cost.layer(spec, d, 64, training=False)
    assert priced.saved == priced.backward.flops == priced.backward.bytes == 0
    assert priced.forward.flops == cost.layer(spec, d, 64).forward.flops


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_layer_has_a_price(name):
    spec, d = PUBLISHED[name]
    priced, dense = cost.layer(spec, d, 4096, dtype="bfloat16"), cost.dense(spec, d, 4096, dtype="bfloat16")
    assert all(math.isfinite(n) and n >= 0 for line in priced.lines for n in (*line.forward, *line.backward, line.saved))
    assert priced.backward.flops < 4 * priced.forward.flops
    assert dense.forward.bytes < priced.forward.bytes
    held, met = cost.parameters(spec, d)
    assert 0 < met <= held
    assert cost.layer(spec, d, 0).tokens == 0
    assert cost.layer(spec, d, 3, training=False).forward.flops > 0


def test_a_plain_layer_is_what_its_matrices_say():
    spec, d = PUBLISHED["qwen3_moe"]
    priced = cost.layer(spec, d, 4096)
    matrices = 2 * (8 * 3 * d * 768 + d * 128) * 4096
    assert priced.forward.flops == pytest.approx(matrices, rel=0.01)
    assert priced.backward.flops == pytest.approx(2 * matrices, rel=0.01)
    assert cost.parameters(spec, d) == (128 * 3 * d * 768 + d * 128, 8 * 3 * d * 768 + d * 128)


def test_parameters_are_those_that_init_draws():
    for name, spec in SPECS.items():
        drawn = spec.init(D, rng=0)
        assert cost.parameters(spec, D)[0] == sum(a.size for a in drawn.values()), name


def test_expert_choice_costs_its_capacity_not_all_experts():
    one, two = (cost.layer(models.expert_choice2022(8, 64, factor=f), 64, 4096).forward.flops / 4096 for f in (1.0, 2.0))
    assert one == pytest.approx(2 * 2 * 64 * 64, rel=0.2)
    assert two / one == pytest.approx(2, rel=0.1)


def test_the_dense_layer_of_the_same_width_costs_the_same_matrices_and_reads_fewer_weights():
    spec, d = PUBLISHED["mixtral"]
    experts = next(line for line in cost.layer(spec, d, 256).lines if line.step.op == "experts.glu")
    dense = cost.dense(spec, d, 256)
    assert cost.active_width(spec, d, 256) == 2 * spec.experts.width
    assert dense.forward.flops == experts.forward.flops == 256 * 2 * (6 * d + 5) * spec.experts.width
    assert dense.forward.intensity > experts.forward.intensity


def test_an_embedding_moves_rows_and_computes_nothing():
    line = cost.embedding(16, 10, dtype="bfloat16")
    assert line.forward == (0, 10 * (32 + 8), 10 * 32)
    assert line.backward.flops == 160


# ---- the expectation -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["shazeer2017", "switch2021", "longcat_flash", "deepseek_v3"])
def test_the_uniform_expectation_is_the_mean_over_drawn_routings(name):
    """Live rows and experts hit, after the layer's own drop, against 100 uniform draws; within five standard errors."""
    spec, _ = PUBLISHED[name]
    e, k, t = spec.experts, spec.router.k, 300 if name == "switch2021" else 40
    priced = cost.layer(spec, 8, t, training=False)
    size = next((line.step.attrs["capacity"] for line in priced.lines if line.step.op == "dispatch.drop"), t)
    rng = np.random.default_rng(0)
    draws = np.array([np.bincount(np.argpartition(rng.random((t, e.classes)), k, axis=1)[:, :k].ravel(), minlength=e.classes)[:e.n]
                      for _ in range(100)])
    live, hit = np.minimum(draws, size).sum(1), (draws > 0).sum(1)
    for found, sample in ((priced.loads[""].rows, live), (priced.loads[""].hit, hit)):
        assert abs(found - sample.mean()) <= 5 * sample.std() / 10 + 1e-9


def test_ranks_share_the_experts_and_their_weights_are_read_more_often():
    spec, d = PUBLISHED["deepseek_v3"]
    one, many = (cost.layer(spec, d, 32, ranks=r) for r in (1, 64))
    assert many.loads[""].rows == one.loads[""].rows == 32 * 8
    assert one.loads[""].hit == pytest.approx(256 * (1 - (1 - 8 / 256) ** 32))
    assert many.loads[""].hit == pytest.approx(4)
    assert many.forward.flops == one.forward.flops


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"routing": np.zeros((3, 2), int)}, r"layer: routing has shape \(3, 2\), but tokens=4"),
    ({"routing": np.full((4, 2), 8)}, r"layer: routing holds 8, outside -1 .. 7 \(shape \(4, 2\)\)"),
    ({"routing": [1, 2]}, r"layer: routing has shape \(2,\), wanted rows of 8 experts"),
    ({"routing": [1] * 8, "ranks": 2}, "layer: a routing is priced on one rank, got ranks=2"),
    ({"ranks": 9}, "layer: ranks=9 exceeds the 8 experts"),
    ({"routing": np.zeros((4, 5), int)}, r"layer: routing has 20 rows, but tokens=4 choose 2 each \(shape \(4, 5\)\)"),
    ({"routing": [9] + [0] * 7}, "layer: routing has 9 rows, but tokens=4 choose 2 each"),
    ({"dtype": "int64"}, "layer: dtype='int64' is not one of float64, float32, float16, bfloat16"),
    ({"dtype": "float33"}, "layer: dtype='float33' is not one of float64, float32, float16, bfloat16"),
    ({"dtype": None}, "layer: dtype=None is not one of"),
])
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        cost.layer(models.mixtral(8, 16), 8, 4, **kwargs)


@pytest.mark.parametrize(("call", "message"), [
    (lambda spec: cost.parameters(spec, 0), "parameters: d_model=0 is below 1"),
    (lambda spec: cost.active_width(spec, 8, -1), "active_width: tokens=-1 is below 0"),
    (lambda spec: cost.dense(spec, -8, 4), "dense: d_model=-8 is below 1"),
    (lambda spec: cost.dense(spec, 8, 4, dtype="int8"), "dense: dtype='int8' is not one of"),
    (lambda spec: cost.embedding(8, -4), "embedding: tokens=-4 is below 0"),
    (lambda spec: cost.embedding(8, 4, dtype="foo"), "embedding: dtype='foo' is not one of"),
])
def test_comparisons_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.mixtral(8, 16))


def test_a_soft_layer_has_no_routing():
    with pytest.raises(ValueError, match="layer: a routing says what one set of experts gets; this layer has slots, not choices"):
        cost.layer(models.soft_moe2023(4, 8), 8, 4, routing=[1] * 4)
