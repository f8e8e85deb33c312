"""torch autograd as a second witness: the papers' formulas in a few lines of torch, float64."""

import numpy as np
import pytest

from moespec import experts, gates, losses

TIGHT = 1e-12


def check(function, inputs, cotangents, outputs, grads):
    """`function` of torch tensors against our outputs and gradients."""
    import torch
    from blocks import relative
    given = [torch.from_numpy(np.asarray(a, float).copy()).requires_grad_() for a in inputs]
    found = function(*given)
    for got, want in zip(outputs, found, strict=True):
        assert relative(np.asarray(got), want.detach().numpy()) < TIGHT
    sum((y * torch.from_numpy(np.asarray(d, float))).sum() for y, d in zip(found, cotangents, strict=True)).backward()
    for got, a in zip([g for g in grads if g is not None], given, strict=True):
        assert relative(np.asarray(got), a.grad.numpy()) < TIGHT


@pytest.mark.parametrize("k", [1, 2, 5])
def test_topk_softmax(k):
    import torch
    rng = np.random.default_rng(k)
    logits, dw = rng.standard_normal((6, 8)), rng.standard_normal((6, k))
    (_, weights), saved = gates.topk_softmax(logits, k=k)
    grad = gates.topk_softmax_backward(saved, dw)
    if k == 1:
        assert not grad.any()
        return
    check(lambda l: (torch.softmax(torch.topk(l, k).values, 1),), [logits], [dw], [weights], [grad])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_noisy_topk_with_importance_and_load_losses(k):
    import torch
    rng = np.random.default_rng(k)
    x, noise = rng.standard_normal((9, 4)), rng.standard_normal((9, 6))
    wg, wn, dw = rng.standard_normal((4, 6)), rng.standard_normal((4, 6)), rng.standard_normal((9, k))

    def paper(x, wg, wn):
        clean, sigma = x @ wg, torch.nn.functional.softplus(x @ wn) + 0.01
        noisy = clean + torch.from_numpy(noise) * sigma
        top = torch.topk(noisy, k + 1)
        weights = torch.softmax(top.values[:, :k], 1)
        importance = torch.zeros(9, 6, dtype=torch.float64).scatter(1, top.indices[:, :k], weights).sum(0)
        inside = noisy > top.values[:, k:k + 1]
        load = torch.special.ndtr((clean - torch.where(inside, top.values[:, k:k + 1], top.values[:, k - 1:k])) / sigma).sum(0)
        return weights, importance.var(correction=0) / importance.mean() ** 2, load.var(correction=0) / load.mean() ** 2

    out, gate = gates.noisy_topk(x, wg, wn, noise, k=k)
    imp, by_weight = losses.importance_cv2(out.indices, out.weights, experts=6)
    (load, _), by_load = losses.load_cv2(out.clean, out.sigma, out.logits, k=k)
    dclean, dsigma, dnoisy = losses.load_cv2_backward(by_load, 0.7)
    grads = gates.noisy_topk_backward(gate, dclean, dsigma, dnoisy, dw + losses.importance_cv2_backward(by_weight, 0.3))
    check(paper, [x, wg, wn], [dw, 0.3, 0.7], [out.weights, imp, load], grads)


@pytest.mark.parametrize("name", ["cooperation", "specialisation", "mixture_nll"])
def test_losses_of_1991(name):
    import torch
    rng = np.random.default_rng(3)
    logits, outputs, target = rng.standard_normal((7, 4)), rng.standard_normal((7, 4, 3)), rng.standard_normal((7, 3))
    d = torch.from_numpy(target)

    def paper(s, o):
        p, squared = torch.softmax(s, 1), ((d[:, None] - o) ** 2).sum(2)
        if name == "cooperation":
            return (((d - (p[:, :, None] * o).sum(1)) ** 2).sum(1).mean(),)
        if name == "specialisation":
            return ((p * squared).sum(1).mean(),)
        return (-torch.log((p * torch.exp(-squared / 2)).sum(1)).mean(),)

    probs, soft = gates.softmax(logits)
    first = logits if name == "mixture_nll" else probs
    loss, saved = getattr(losses, name)(first, outputs, target)
    dfirst, doutputs = getattr(losses, f"{name}_backward")(saved, 1.0)
    dlogits = dfirst if name == "mixture_nll" else gates.softmax_backward(soft, dfirst)
    check(paper, [logits, outputs], [1.0], [loss], [dlogits, doutputs])


@pytest.mark.parametrize("gate", ["tree", "gaussian"])
def test_mixtures_of_1994(gate):
    """The densities are those of torch.distributions; the responsibilities have a cotangent too."""
    import torch
    from torch.distributions import Normal
    rng = np.random.default_rng(5)
    outputs, target, logs, dh = rng.standard_normal((7, 6, 3)), rng.standard_normal((7, 3)), rng.standard_normal(6), rng.standard_normal((7, 6))
    parts = [rng.standard_normal((7, 8))] if gate == "tree" else [rng.standard_normal(s) for s in ((7, 2), (6, 2), (6, 2), 6)]

    def paper(*given):
        *own, o, l = given
        if gate == "tree":
            prior = (torch.softmax(own[0][:, :2], 1)[:, :, None] * torch.softmax(own[0][:, 2:].reshape(7, 2, 3), 2)).reshape(7, 6)
        else:
            x, means, precisions, priors = own
            prior = torch.exp(priors + Normal(means, torch.exp(-precisions / 2)).log_prob(x[:, None]).sum(2))
            prior = prior / prior.sum(1, keepdim=True)
        joint = prior * torch.exp(Normal(o, torch.exp(-l / 2)[:, None]).log_prob(torch.from_numpy(target)[:, None]).sum(2))
        return -torch.log(joint.sum(1)).mean(), joint / joint.sum(1, keepdim=True)

    logits, kept = gates.tree(*parts, branching=(2, 3)) if gate == "tree" else gates.gaussian(*parts)
    evidence, gaussian = losses.gaussian_log_likelihood(outputs, target, logs)
    found, saved = losses.mixture_likelihood(logits, evidence)
    dlogits, devidence = losses.mixture_likelihood_backward(saved, 0.7, dh)
    first = (gates.tree_backward(kept, dlogits),) if gate == "tree" else gates.gaussian_backward(kept, dlogits)
    check(paper, [*parts, outputs, logs], [0.7, dh], found, [*first, *losses.gaussian_log_likelihood_backward(gaussian, devidence)])


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu", "relu2"])
def test_experts_moe_against_a_dense_sum(activation):
    import torch
    rng, ids = np.random.default_rng(4), np.array([[0, 2], [1, -1], [2, 2], [-1, -1], [0, 1]])
    x, w = rng.standard_normal((5, 6)), rng.standard_normal((5, 2))
    wg, wu, wd, dy = *rng.standard_normal((2, 3, 6, 4)), rng.standard_normal((3, 4, 6)), rng.standard_normal((5, 6))
    act = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu, "relu": torch.relu, "relu2": lambda v: torch.relu(v) ** 2,
           "gelu_tanh": lambda v: torch.nn.functional.gelu(v, approximate="tanh")}[activation]
    share = (torch.from_numpy(ids)[:, :, None] == torch.arange(3)).double()

    def dense(x, w, wg, wu, wd):
        every = torch.einsum("etf,efd->etd", act(torch.einsum("td,edf->etf", x, wg)) * torch.einsum("td,edf->etf", x, wu), wd)
        return (torch.einsum("tke,tk,etd->td", share, w, every),)

    y, saved = experts.moe(x, ids, w, wg, wu, wd, activation=activation)
    check(dense, [x, w, wg, wu, wd], [dy], [y], experts.moe_backward(saved, dy))
