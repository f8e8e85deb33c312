"""The same layer in torch: sort the assignments, grouped products, gradients by autograd."""

from __future__ import annotations


class Absent(RuntimeError):
    """Torch cannot be measured here."""


class TorchLayer:
    """A rival of `Layer`; the sizes of the experts stay on the device."""

    def __init__(self, layer):
        try:
            import torch
        except ImportError:
            raise Absent("torch is not installed") from None
        self.torch, self.k, self.machine = torch, layer.shape.K, layer.machine
        self.device, why = layer.machine.torch_device(torch)
        if self.device is None:
            raise Absent(why)
        if not hasattr(torch, "_grouped_mm"):
            raise Absent(f"torch {torch.__version__} has no _grouped_mm")
        given = {name: self.machine.to_torch(torch, a) for name, a in layer.weights.items()}
        self.router = given["router.w"].clone().requires_grad_()
        self.w_in = torch.cat([given["experts.w_gate"], given["experts.w_up"]], 2).requires_grad_()
        self.w_out = given["experts.w_down"].clone().requires_grad_()
        self.x, self.dy = self.machine.to_torch(torch, layer.x).clone().requires_grad_(), self.machine.to_torch(torch, layer.dy)

    def forward(self, x):
        torch = self.torch
        shares, ids = torch.topk(torch.softmax(x @ self.router, -1, dtype=torch.float32), self.k, dim=-1)
        shares = (shares / shares.sum(-1, keepdim=True)).to(x.dtype)
        flat = ids.reshape(-1)
        order = torch.argsort(flat, stable=True)
        ends = torch.searchsorted(flat[order], torch.arange(len(self.w_out), device=x.device), right=True).to(torch.int32)
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        gate, up = torch._grouped_mm(x[order // self.k], self.w_in, offs=ends).chunk(2, -1)
        rows = torch._grouped_mm(torch.nn.functional.silu(gate) * up, self.w_out, offs=ends)
        return (rows[place].view(*ids.shape, -1) * shares[..., None]).sum(1)

    def step(self):
        for p in (self.x, self.router, self.w_in, self.w_out):
            p.grad = None
        y = self.forward(self.x)
        y.backward(self.dy)
        return y.detach(), self.x.grad

    def peak(self):
        """Bytes allocated at most, beyond what was there before."""
        if self.device == "cpu":
            return 0
        cuda = self.torch.cuda
        for p in (self.x, self.router, self.w_in, self.w_out):
            p.grad = None
        before = cuda.memory_allocated()
        cuda.reset_peak_memory_stats()
        self.step()
        cuda.synchronize()
        return cuda.max_memory_allocated() - before

    def to_numpy(self, tensor):
        return tensor.float().cpu().numpy()
