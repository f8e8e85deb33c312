"""One SwiGLU layer in sizes at which its products count, on the host backends: time, memory, and its ratio to the floor."""

import numpy as np

from moespec import backward, forward
from moespec.models import mixtral

from .backends import HOST
from .floor import grouped_products, ratio, reading
from .saved import saved_bytes

SHAPES = ["2048,512,1024,8,2", "2048,256,256,64,4", "512,512,1024,64,2"]
ONE_TOKEN = "1,1024,2048,8,2"


class Layer:
    """A layer of one shape (T, D, F, E, K), float32, with everything that a candidate needs."""

    def __init__(self, shape, backend="numba"):
        t, self.d, self.f, e, self.k = map(int, shape.split(","))
        self.spec, self.backend = mixtral(e, self.f, self.k), backend
        self.weights = self.spec.init(self.d, rng=0, dtype="float32")
        rng = np.random.default_rng(1)
        self.x, self.dy = (rng.standard_normal((t, self.d)).astype("float32") for _ in range(2))

    def forward(self):
        return forward(self.spec, self.weights, self.x, backend=self.backend)

    def step(self):
        out, saved = self.forward()
        return out.y, backward(saved, self.dy).x

    def offsets(self):
        ids = self.forward()[0].routing.indices
        return np.concatenate([[0], np.cumsum(np.bincount(ids.ravel(), minlength=self.spec.experts.n))])

    def reading(self):
        """The floor of one token: its experts' matrices, each read once."""
        ids = self.forward()[0].routing.indices.ravel()
        return reading([w[e] for name, w in self.weights.items() if name.startswith("experts.w") for e in ids])

    def floor(self):
        return grouped_products(self.offsets(), self.d, self.f)

    def saved_bytes(self):
        return saved_bytes(self.forward()[1], (self.x, *self.weights.values()))


class SwiGLU:
    """A step of training, and its forward alone."""

    params = (SHAPES, HOST)
    param_names = ("T,D,F,E,K", "backend")
    version = "2"
    timeout = 600

    def setup(self, shape, which):
        self.layer = Layer(shape, which)
        self.layer.step()

    def time_forward(self, shape, which):
        self.layer.forward()

    def time_forward_backward(self, shape, which):
        self.layer.step()

    def peakmem_forward_backward(self, shape, which):
        self.layer.step()

    def track_ratio_to_gemm_floor(self, shape, which):
        return ratio(self.layer.step, self.layer.floor())

    def track_saved_bytes(self, shape, which):
        return self.layer.saved_bytes()

    track_ratio_to_gemm_floor.unit = "x the bare grouped products"
    track_saved_bytes.unit = "bytes"


class OneToken:
    """The forward pass of a single token."""

    params = (HOST,)
    param_names = ("backend",)
    version = "2"
    timeout = 600

    def setup(self, which):
        self.layer = Layer(ONE_TOKEN, which)
        self.layer.forward()

    def time_forward(self, which):
        self.layer.forward()
