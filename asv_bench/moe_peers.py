"""The same layer in torch: by grouped products, and as transformers runs it by default."""

import numpy as np
import torch
from torch.nn import functional as F


class Grouped:
    """Sort the assignments, two grouped products, add up; gradients by autograd, into fresh arrays."""

    def __init__(self, weights, k):
        self.k = k
        self.router = parameter(weights["router.w"])
        self.w_in = parameter(np.concatenate([weights["experts.w_gate"], weights["experts.w_up"]], axis=2))
        self.w_out = parameter(weights["experts.w_down"])

    def forward(self, x):
        shares, ids = torch.topk(torch.softmax(x @ self.router, -1), self.k, dim=-1)
        shares = shares / shares.sum(-1, keepdim=True)
        flat = ids.reshape(-1)
        order = torch.argsort(flat, stable=True)
        token = order // self.k
        ends = torch.cumsum(torch.bincount(flat, minlength=len(self.w_out)), 0).to(torch.int32)
        gate, up = torch._grouped_mm(x[token], self.w_in, offs=ends).chunk(2, -1)
        out = torch._grouped_mm(F.silu(gate) * up, self.w_out, offs=ends)
        return torch.zeros_like(x).index_add_(0, token, out * shares.reshape(-1)[order][:, None])

    def parameters(self):
        return self.router, self.w_in, self.w_out


class Eager:
    """Mixtral's block of transformers, with the eager experts."""

    def __init__(self, weights, k):
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
        experts, d, f = weights["experts.w_gate"].shape
        config = MixtralConfig(hidden_size=d, intermediate_size=f, num_local_experts=experts, num_experts_per_tok=k)
        config._experts_implementation = "eager"
        self.block = MixtralSparseMoeBlock(config)
        fused = np.concatenate([weights["experts.w_gate"], weights["experts.w_up"]], axis=2)
        with torch.no_grad():
            self.block.gate.weight.copy_(torch.from_numpy(weights["router.w"].T.copy()))
            self.block.experts.gate_up_proj.copy_(torch.from_numpy(np.swapaxes(fused, 1, 2).copy()))
            self.block.experts.down_proj.copy_(torch.from_numpy(np.swapaxes(weights["experts.w_down"], 1, 2).copy()))

    def forward(self, x):
        return self.block(x[None])[0]

    def parameters(self):
        return tuple(self.block.parameters())


def parameter(array):
    return torch.from_numpy(array.copy()).requires_grad_()


def step(layer, x, dy):
    """A function that runs forward and backward and returns (y, dx); the gradients before are thrown away."""
    given, cotangent = parameter(x), torch.from_numpy(dy)

    def run():
        for p in (given, *layer.parameters()):
            p.grad = None
        y = layer.forward(given)
        y.backward(cotangent)
        return y.detach().numpy(), given.grad.numpy()

    return run


def inference(layer, x):
    given = torch.from_numpy(x)

    def run():
        with torch.no_grad():
            return layer.forward(given).numpy()

    return run
