"""Published layers with their own routing, experts and losses, narrowed to a width at which a step takes milliseconds."""

import inspect

import numpy as np

from moespec import backward, forward
from moespec.backend import load
from moespec.models import FAMILIES, PAPERS

from .backends import BACKENDS
from .saved import saved_bytes

WIDTH, TOKENS = 64, 512
NAMES = ["shazeer2017", "gshard2020", "switch2021", "vmoe2021", "expert_choice2022", "soft_moe2023", "deepseekmoe2024", "remoe2024",
         "mixtral", "qwen3_moe", "gpt_oss", "llama4", "deepseek_v3"]
NAMED = {"hidden_size", "intermediate_size", "moe_intermediate_size", "intermediate_size_mlp"}


def narrowed(name):
    """The declaration of a paper or family: as many experts and choices as published, every width 64."""
    if name in FAMILIES:
        sizes = FAMILIES[name].sizes
        return FAMILIES[name].spec({**sizes, **dict.fromkeys(NAMED & set(sizes), WIDTH)})
    make = PAPERS[name]
    return make(**({"width": WIDTH} if "width" in inspect.signature(make).parameters else {}))


class Published:
    """A step of training: noise, capacity and losses act."""

    params = (NAMES, BACKENDS)
    param_names = ("layer", "backend")
    version = "1"
    timeout = 600

    def setup(self, name, which):
        self.spec, self.backend, rng = narrowed(name), load(which), np.random.default_rng(0)
        params = self.spec.init(WIDTH, rng=rng, dtype="float32")
        self.params = {key: self.backend.from_numpy(a) for key, a in params.items()}
        self.x, self.dy = (self.backend.from_numpy(rng.standard_normal((TOKENS, WIDTH)).astype("float32")) for _ in range(2))
        self.noise = self.spec.draw(TOKENS, WIDTH, rng=rng)
        _, self.saved = self._forward()
        backward(self.saved, self.dy)
        self.backend.synchronize()

    def _forward(self):
        return forward(self.spec, self.params, self.x, noise=self.noise, training=True, backend=self.backend)

    def time_forward(self, name, which):
        self._forward()
        self.backend.synchronize()

    def time_backward(self, name, which):
        backward(self.saved, self.dy)
        self.backend.synchronize()

    def peakmem_forward_backward(self, name, which):
        _, saved = self._forward()
        backward(saved, self.dy)
        self.backend.synchronize()

    def track_saved_bytes(self, name, which):
        if not self.backend.host:
            raise NotImplementedError("what a device keeps is not looked into")
        return saved_bytes(self.saved, (self.x, *self.params.values(), *self.noise.values()))

    track_saved_bytes.unit = "bytes"
