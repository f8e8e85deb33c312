"""Blocks of transformers with random weights, every float computation of theirs in float64."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch


@contextmanager
def all_float64():
    """Undo the casts to float32 that a block makes on its way."""
    with mock.patch.object(torch.Tensor, "float", lambda self: self):
        yield


def randomised(block, seed):
    """The block in float64, its parameters drawn anew."""
    block = block.double()
    generator = torch.Generator().manual_seed(seed)
    for p in block.parameters():
        p.data.normal_(0, 0.5, generator=generator)
    return block


def mixtral(d, f, e, k, seed=0, jitter=0.0):
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
    config = MixtralConfig(hidden_size=d, intermediate_size=f, num_local_experts=e, num_experts_per_tok=k,
                           router_jitter_noise=jitter)
    config._experts_implementation = "eager"
    return randomised(MixtralSparseMoeBlock(config), seed).eval()


def switch(d, f, e, capacity, seed=0, jitter=0.0):
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP
    config = SwitchTransformersConfig(d_model=d, hidden_size=d, d_ff=f, num_experts=e, expert_capacity=capacity,
                                      router_jitter_noise=jitter, dropout_rate=0.0)
    block = randomised(SwitchTransformersSparseMLP(config), seed).eval()
    block.router.dtype = torch.float64                    # the config admits no wider one than float32
    return block


def run(block, x, dy, loss=None):
    """(y, dx, {name: gradient}) as NumPy arrays; `loss`, a function of what the router returns, is backpropagated beside dy."""
    given, seen = torch.from_numpy(x.copy()).requires_grad_(), []
    router = block.gate if hasattr(block, "gate") else block.router
    hook = router.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs))
    with all_float64():
        y = block(given * 1.0)
        ((y * torch.from_numpy(dy.copy())).sum() + (loss(*seen[0]) if loss else 0.0)).backward()
    hook.remove()
    grads = {name: (torch.zeros_like(p) if p.grad is None else p.grad).numpy() for name, p in block.named_parameters()}
    return y.detach().numpy(), given.grad.numpy(), grads


@contextmanager
def drawn(noise):
    """Their draw from a uniform distribution gives `noise`."""
    with mock.patch.object(torch.Tensor, "uniform_", lambda self, low, high: self.copy_(torch.from_numpy(noise))):
        yield


def arrays(block):
    return {name: p.detach().numpy() for name, p in block.named_parameters()}


def relative(got, want):
    """max |got - want| over max |want|."""
    assert got.shape == want.shape
    return np.abs(got - want).max() / max(np.abs(want).max(), 1e-300)
