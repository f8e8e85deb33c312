"""Layers spread over ranks: small cases, in one process and on every rank."""

import numpy as np
from layer_specs import SPECS, D, prepared

import moespec
from moespec import models, parallel

SIZES = {"n": 8, "width": 5, "k": 2, "groups": 4, "vocab": 7, "shared": 1}
OTHER = {"peer2024": {"n": 9}, "mod2024": {"share": 0.5}, "remoe2024": {}, "shazeer2017_hierarchical": {}, "base2021": {"n": 4}}


def small(name):
    """A paper's layer in a tiny size."""
    make = models.PAPERS[name]
    takes = make.__code__.co_varnames[:make.__code__.co_argcount + make.__code__.co_kwonlyargcount]
    sizes = {key: size for key, size in SIZES.items() if key in takes} | OTHER.get(name, {})
    return make(**sizes)


PAPERS = {name: small(name) for name in models.PAPERS} | {
    "mixtral": models.mixtral(8, 5), "switch2021_reroute": models.switch2021(8, 5, factor=0.7, reroute=True, z_coef=0.1),
    "switch2021_dropout": models.switch2021(8, 5, factor=0.5, dropout=0.4), "soft_moe2023_slots": models.soft_moe2023(3, 5, slots=2)}
LAYERS = PAPERS | SPECS


def whole(name, tokens, seed=0):
    """The batch of all ranks: spec, params, x, what forward is given, and a cotangent of y."""
    spec = LAYERS[name]
    params, x, given, rng = prepared(spec, seed, tokens)
    if name == "jacobs1991":
        given["context"]["target"] = rng.standard_normal((*tokens, D))
    return spec, params, x, given, rng.standard_normal(x.shape)


def one_process(spec, params, x, given, dy):
    """Outputs and gradients of `moespec.forward` and `backward`."""
    out, saved = moespec.forward(spec, params, x, **given)
    return out, moespec.backward(saved, dy)


def on_rank(comm, batch, sizes, **settings):
    """The same of one rank; `sizes` says how the first axis is cut."""
    spec, params, x, given, dy = batch
    start = sum(sizes[:comm.rank])
    own = slice(start, start + sizes[comm.rank])
    per = int(np.prod(x.shape[1:-1]))
    noise = {key: a[own.start * per:own.stop * per] for key, a in given["noise"].items()}
    context = {key: a[own] for key, a in given["context"].items()}
    out, saved = parallel.forward(spec, parallel.shard(spec, params, comm.rank, comm.size), x[own], comm=comm, noise=noise, context=context,
                                  training=given["training"], **settings)
    return out, parallel.backward(saved, dy[own])


def together(spec, results):
    """y, dx, every parameter's gradient and every loss, as named arrays of the whole batch."""
    outs, grads = zip(*results, strict=True)
    found = {"y": np.concatenate([o.y for o in outs]), "dx": np.concatenate([g.x for g in grads])}
    found |= {f"d{name}": d for name, d in parallel.unshard(spec, [g.params for g in grads]).items()}
    for out in outs[1:]:
        assert out.losses == outs[0].losses                   # every rank has the losses of the whole batch
    for grad in grads[1:]:
        assert all(np.array_equal(grad.params[n], grads[0].params[n]) for n in grad.params if n not in parallel.sharded(spec))
    return found | {f"loss {name}": np.asarray(value) for name, value in outs[0].losses.items()}


def reference(spec, params, x, given, dy):
    return together(spec, [one_process(spec, params, x, given, dy)])


def cuts(n, ranks, rng):
    """Sizes of uneven parts that sum to n; some are 0."""
    ends = np.sort(rng.integers(0, n + 1, ranks - 1))
    return tuple(np.diff([0, *ends, n]).tolist())
