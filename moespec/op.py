"""What one operation declares about itself: arguments, cases, requirements, and the record `Op`."""

from __future__ import annotations

import inspect
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache, wraps
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from moespec.numerics import acc, is_real
from moespec.pairs import Pair

REMEMBERED = 1024       # shapes of inputs per op, attributes per function


@dataclass(frozen=True)
class Arg:
    """One input or output: its name, its shape in named dimensions, its kind and its dtype."""

    name: str
    shape: str                      # "T E", "E+1", "" (scalar); equal letters bind equal sizes, K also from the attribute k
    kind: str = "real"              # real | index | count | mask        (only real ones have cotangents)
    of: str = ""                    # index: the dimension it points into; legal values -1 .. of-1
    grad: bool = True               # False: real, but constant under differentiation (noise, bias, priority)
    optional: bool = False          # may be None
    like: str = ""                  # dtype: of the named input; "acc": accumulation dtype of the first real input;
    #                                 "attr:dtype": the wider of that attribute and the first real input; or a fixed one

    @property
    def differentiable(self):
        return self.kind == "real" and self.grad


class Case(NamedTuple):
    """One test input.  Tags: exact tie nan inf empty large kink invalid ... (see corpus)."""

    name: str
    inputs: Mapping[str, Any]
    attrs: Mapping[str, Any] = {}
    tags: frozenset[str] = frozenset()

    def with_(self, suffix="", **attrs):
        """The same inputs under further attributes."""
        return self._replace(name=f"{self.name}_{suffix}".strip("_"), attrs={**self.attrs, **attrs})

    def add(self, suffix="", tags=(), **inputs):
        """Further (or replaced) inputs."""
        return self._replace(name=f"{self.name}_{suffix}".strip("_"), inputs={**self.inputs, **inputs}, tags=self.tags | set(tags))

    def only(self, *names, **inputs):
        """Keep the inputs called `names`, add `inputs`."""
        return self._replace(inputs={**{n: self.inputs[n] for n in names}, **inputs})


class Req(NamedTuple):
    """A numbered requirement; `check(run)` returns something that must be true everywhere, or None where it does not apply."""

    id: str
    text: str
    check: Callable[[SimpleNamespace], Any]      # run: inputs, attrs, outputs, cotangents, grads, rerun(**changes), dims, case


class Step(NamedTuple):
    """One line of a composite: names separated by blanks; "-" reads None; each name is written once."""

    op: str
    reads: str
    writes: str
    attrs: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Op:
    """The record of one operation.  A primitive has forward and backward, a composite has steps."""

    name: str                                            # "gates.topk_softmax" = import path of the function
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    forward: Callable[..., Any]                          # (*inputs, **attrs) -> (output | NamedTuple, saved)
    backward: Callable | None = None                     # (saved, *cotangents of real outputs) -> grads of real inputs
    steps: Callable[..., tuple[Step, ...]] | None = None     # (dims, **attrs); dims[name] is None for an input not given
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)     # attributes that decide which ops the steps are
    cases: Callable[..., Iterable[Case]] = lambda rng: ()
    invalid: tuple[tuple[Case, type[Exception], str], ...] = ()
    requirements: tuple[Req, ...] = ()
    flops: Callable[..., tuple[float, float]] | None = None   # (**dims) -> forward, backward; bytes follow from the Args
    refs: tuple[str, ...] = ()
    check: Callable[..., None] = lambda dims, *inputs, **attrs: None     # raises what is wrong beyond shapes, dtypes and ids

    @property
    def short(self):
        """The name without its family."""
        return self.name.split(".", 1)[1]

    @cached_property
    def results(self):
        """The NamedTuple of several outputs."""
        return namedtuple("".join(word.title() for word in self.short.split("_")), [a.name for a in self.outputs])

    @property
    def grads(self):
        """The inputs that backward returns gradients of, in order."""
        return tuple(a for a in self.inputs if a.differentiable)

    @property
    def cotangents(self):
        """The outputs that backward takes cotangents of, in order."""
        return tuple(a for a in self.outputs if a.kind == "real")

    def line(self, dims, **attrs):
        """The steps of a composite."""
        if self.steps is None:
            raise TypeError(f"{self.name} is a primitive: it has no steps")
        return self.steps(dims, **attrs)

    def admit(self, *inputs, **attrs):
        """Refuse everything that a host implementation refuses, in the specification's words; returns the named dimensions.

        The reference calls it first, and so may any host backend.
        """
        dims = self.bind(*inputs)
        self.check(dims, *inputs, **attrs)
        return dims

    def bind(self, *inputs, values=True):
        """Check `inputs` (in the order of the Args) against their declarations and return the named dimensions.

        With `values` the ids of index inputs are checked too: a host backend always reports one out of range.
        """
        try:
            key = tuple([None if a is None else (a.shape, a.dtype) for a in inputs])
            sizes = self._bound.get(key)
        except (AttributeError, TypeError):             # not arrays, or dtypes that cannot be a key
            key, sizes = (), None
        if sizes is None:
            sizes = self._sizes(inputs)
            if key and len(self._bound) < REMEMBERED:
                self._bound[key] = sizes
        for at, arg in self._indices:
            if values and inputs[at] is not None and arg.of in sizes:
                self._check_range(arg, inputs[at], sizes[arg.of])
        return SimpleNamespace(**sizes)

    def _sizes(self, inputs):
        """Every named dimension, from inputs of the declared kinds and shapes."""
        sizes: dict[str, int] = {}
        bound_by: dict[str, tuple[str, tuple[int, ...]]] = {}
        for arg, array in zip(self.inputs, inputs, strict=True):
            if array is None:
                if not arg.optional:
                    raise ValueError(f"{self.short}: {arg.name} is required")
                continue
            self._check_kind(arg, array)
            self._bind_shape(arg, array, sizes, bound_by)
        return sizes

    @cached_property
    def _bound(self) -> dict[Any, dict[str, int]]:
        """The dimensions of inputs seen before, by their shapes and dtypes: an op is called again and again."""
        return {}

    @cached_property
    def _indices(self):
        """(position, Arg) of the inputs whose ids are checked."""
        return tuple((i, arg) for i, arg in enumerate(self.inputs) if arg.kind == "index" and arg.of)

    def dims(self, inputs, outputs):
        """Every named dimension of a run, from its inputs and outputs; a shape that disagrees is a ValueError."""
        sizes: dict[str, int] = {}
        for arg, array in zip(self.inputs + self.outputs, (*inputs, *outputs), strict=True):
            if array is not None:
                self._bind_shape(arg, array, sizes, {})
        return SimpleNamespace(**sizes)

    def _check_kind(self, arg, array):
        if not hasattr(array, "dtype") or not hasattr(array, "shape"):
            raise TypeError(f"{self.short}: {arg.name} must be an array, got {type(array).__name__}")
        dtype = np.dtype(array.dtype)
        if not _fits(arg.kind, dtype):
            wanted = {"real": "a real floating dtype", "mask": "bool"}.get(arg.kind, "an integer dtype")
            raise TypeError(f"{self.short}: {arg.name} has dtype {dtype}, wanted {wanted} (shape {array.shape})")

    def _bind_shape(self, arg, array, sizes, bound_by):
        dims = _dimensions(arg.shape)
        if len(array.shape) != len(dims):
            raise ValueError(f"{self.short}: {arg.name} has shape {array.shape}, wanted {len(dims)} dimensions ({', '.join(arg.shape.split())})")
        for (letter, plus), size in zip(dims, array.shape, strict=True):
            wanted = sizes.get(letter, None if letter else 0)
            if wanted is None:
                sizes[letter] = size - plus
                bound_by[letter] = arg.name, array.shape
            elif size != wanted + plus:
                name, shape = bound_by.get(letter, ("", ()))
                source = f"{name} has shape {shape}" if name else "from the attributes"
                name, because = (f"{letter}+{plus}" if plus else letter, f"{letter}={wanted}, {source}") if letter else (plus, plus)
                raise ValueError(f"{self.short}: {arg.name} has shape {array.shape}, but {name} must be {wanted + plus} ({because})")

    def _check_range(self, arg, array, size):
        if not array.size:
            return
        low, high = int(array.min()), int(array.max())
        if low < -1 or high >= size:
            raise ValueError(f"{self.short}: {arg.name} holds {high if high >= size else low}, "
                             f"outside -1 .. {size - 1} ({arg.name} has shape {array.shape})")

    def dtype_of(self, arg, dtypes, **attrs):
        """The dtype of an output (or of a gradient), from the dtypes of the inputs by name."""
        if arg.kind != "real":
            return np.dtype({"index": "int64", "count": "int64", "mask": "bool"}[arg.kind])
        first = next(np.dtype(dtypes[a.name]) for a in self.inputs if a.kind == "real" and dtypes.get(a.name) is not None)
        if arg.like == "acc":
            return acc(first)
        if arg.like.startswith("attr:"):
            name = arg.like[5:]
            return wider(first, attrs.get(name, inspect.signature(self.forward).parameters[name].default))
        if arg.like in dtypes:
            return np.dtype(dtypes[arg.like])
        return np.dtype(arg.like) if arg.like else first


@cache
def _dimensions(shape):
    """(letter, added number) of every dimension of an Arg."""
    return tuple((letter, int(plus or 0)) for letter, plus in map(dimension, shape.split()))


@cache
def _fits(kind, dtype):
    """Whether an Arg of this kind may have this dtype."""
    return {"real": is_real(dtype), "mask": dtype.kind == "b"}.get(kind, dtype.kind in "iu")


def remembered(function):
    """`function`, its results kept by its arguments where those can be keys: a layer asks the same again and again."""
    kept = lru_cache(REMEMBERED)(function)

    @wraps(function)
    def call(*args, **attrs):
        try:
            return kept(*args, **attrs)
        except TypeError:                               # no keys, or what `function` itself says of them
            return function(*args, **attrs)

    return call


def dimension(name):
    """("E", "1") of "E+1", ("T", None) of "T", ("", "2") of "2"."""
    found = re.fullmatch(r"([A-Za-z]\w*)?\+?(\d+)?", name)
    if found is None:
        raise ValueError(f"{name!r} is not a dimension")
    return found[1] or "", found[2]


@cache
def wider(a, b):
    """The wider of two real dtypes; float16 and bfloat16 meet in float32."""
    if any(isinstance(x, str) and x == "bfloat16" for x in (a, b)):
        import ml_dtypes  # noqa: F401  (teaches NumPy the name)
    a, b = np.dtype(a), np.dtype(b)
    if a == b:
        return a
    return np.dtype("float64") if "float64" in (a.name, b.name) else np.dtype("float32")


def as_tuple(x):
    """A single array as a 1-tuple; a tuple as it is."""
    return tuple(x) if isinstance(x, (tuple, list)) and not isinstance(x, Pair) else (x,)
