"""Every op of the specification on every backend that runs here, forward and backward, in float32."""

from moespec.backend import load, resolve
from moespec.op import as_tuple
from moespec.registry import OPS

from .arguments import arguments
from .backends import BACKENDS, placed

TOKENS = [1024]                  # another size is another process for every op: some 100 s more, even with --quick


class Timed:
    """What forward and backward have in common.  A backend without the op shows n/a."""

    param_names = ("op", "backend", "tokens")
    version = "1"
    timeout = 600                     # a kernel that is not in the cache is compiled first
    warmup_time = 0.02
    sample_time = 0.005
    repeat = (3, 10, 0.2)
    rounds = 2

    def setup(self, name, which, tokens):
        inputs, self.attrs = arguments(OPS[name], tokens)
        self.backend = load(which)
        self.impl = resolve(self.backend, name, self.attrs)
        self.inputs = placed(self.backend, inputs)
        outputs, self.saved = self.impl.forward(*self.inputs, **self.attrs)
        self.outputs = dict(zip((a.name for a in OPS[name].outputs), as_tuple(outputs), strict=True))
        self.backend.synchronize()


class Forward(Timed):
    """One call, its kernels awaited."""

    params = (sorted(OPS), BACKENDS, TOKENS)

    def time_forward(self, name, which, tokens):
        self.impl.forward(*self.inputs, **self.attrs)
        self.backend.synchronize()


class Backward(Timed):
    """The same of the gradients, of the ops that have any; the outputs themselves serve as cotangents."""

    params = (sorted(name for name, op in OPS.items() if op.backward or op.steps), BACKENDS, TOKENS)

    def setup(self, name, which, tokens):
        super().setup(name, which, tokens)
        self.cotangents = [self.outputs[a.name] for a in OPS[name].cotangents]
        self.time_backward()

    def time_backward(self, *_):
        self.impl.backward(self.saved, *self.cotangents)
        self.backend.synchronize()
