"""moespec in torch, and torch in moespec's suite."""

import numpy as np
import pytest

from moespec.conformance import check
from moespec.models import mixtral, switch2021

RNG = np.random.default_rng(0)


def tensors(*arrays):
    import torch
    return [torch.from_numpy(np.asarray(a)).requires_grad_(np.asarray(a).dtype.kind == "f") for a in arrays]


@pytest.mark.parametrize(("op", "arrays", "attrs"), [
    ("gates.softmax", [RNG.standard_normal((4, 5))], {}),
    ("gates.softmax_topk", [RNG.standard_normal((4, 5))], {"k": 2, "norm": "sum", "scale": 2.5}),
    ("losses.mixture_nll", [RNG.standard_normal(s) for s in ((3, 4), (3, 4, 2), (3, 2))], {}),
    ("losses.z_loss", [RNG.standard_normal((3, 4))], {}),
    ("experts.moe", [RNG.standard_normal((3, 4)), np.array([[0, 1], [1, -1], [1, 1]]), RNG.random((3, 2)), *RNG.standard_normal((2, 2, 4, 3)),
                     RNG.standard_normal((2, 3, 4))], {}),
])
def test_gradcheck(op, arrays, attrs):
    import torch

    from moespec.interop.torch import OPS, function
    run, record = function(op, **attrs), OPS[op]
    given = [t.requires_grad_(a.differentiable) if t.is_floating_point() else t for a, t in zip(record.inputs, tensors(*arrays), strict=False)]

    def real(*inputs):
        found = run(*inputs)
        return [y for y in (found if isinstance(found, tuple) else (found,)) if y.is_floating_point()]

    assert torch.autograd.gradcheck(real, given)


@pytest.mark.parametrize("spec", [mixtral(4, 6), switch2021(4, 6)], ids=["mixtral", "switch"])
def test_a_layer_trains_as_a_module(spec):
    import torch

    from moespec.interop.torch import Layer
    layer, x = Layer(spec, 5, rng=0, dtype=torch.float64), torch.from_numpy(RNG.standard_normal((2, 8, 5)))
    target, optimiser, seen = torch.sin(x), torch.optim.Adam(layer.parameters(), 0.02), []
    for _ in range(30):
        y, losses = layer(x)
        loss = ((y - target) ** 2).mean() + sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
    assert seen[-1] < 0.8 * seen[0]
    assert all(p.grad is not None for p in layer.parameters())


def test_a_layer_notices_parameters_that_were_overwritten():
    import torch

    from moespec.interop.torch import Layer
    layer = Layer(mixtral(4, 6), 5, rng=0)
    y, _ = layer(torch.randn(3, 5))
    with torch.no_grad():
        layer.experts_w_up.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradcheck_of_a_layer():
    import torch

    from moespec.interop.torch import Layer
    layer = Layer(switch2021(4, 3, jitter=0.0), 3, rng=1, dtype=torch.float64).eval()
    x = torch.from_numpy(RNG.standard_normal((4, 3))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: (layer(x)[0], *layer(x)[1].values()), (x,))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_torch_softmax_under_test(dtype):
    """Their softmax, autograd included; +inf, a gradient of theirs beside NaN, and a row of -inf follow IEEE as ours do."""
    import torch

    from moespec.interop.torch import kernel
    report = check("gates.softmax", **kernel(lambda logits: torch.softmax(logits, 1)), dtypes=[dtype], deterministic=True,
                   declares={"stores": {}}, raises=False)
    failed = {r.id for r in report.failures if r.kind == "forward"}
    assert not failed


def test_a_wrong_torch_kernel_is_refused():
    import torch

    from moespec.interop.torch import kernel
    report = check("gates.softmax", **kernel(lambda logits: torch.softmax(logits * 1.001, 1)), raises=False)
    assert {r.kind for r in report.failures} >= {"forward", "backward"}
