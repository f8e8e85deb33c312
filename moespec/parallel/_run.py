"""Forward and backward of a declared layer whose tokens and experts are spread over ranks."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from moespec import program
from moespec.backend import get_backend
from moespec.backend import resolver as resolver_of
from moespec.experts import OPS as EXPERTS
from moespec.fuse import fuse
from moespec.layer import LayerSpec, Out
from moespec.layer._inputs import REPLAY, context_of, dtype_of, require_params, require_read
from moespec.layer._run import gradients, results, seeds
from moespec.parallel._batch import agree, agree_backward, follows_of_part, noise_of_part
from moespec.parallel._link import Link
from moespec.parallel._plan import Call, plan, shapes
from moespec.parallel._shard import sharded
from moespec.program import Impl


class Saved(NamedTuple):
    """What forward keeps for backward."""

    spec: LayerSpec
    backend: Any
    trace: Any
    params: tuple[str, ...]
    shape: tuple[int, ...]
    resolve: Any
    link: Link


def forward(spec, params, x, *, comm, noise=None, rng=None, context=None, training=False, backend=None, keep=(),
            ordered=False, chunks=1, check=True) -> tuple[Out, Saved]:
    """Run a layer of which this rank has some tokens and some experts.

    Every rank calls it with the same declaration and settings.  The result is that of `moespec.forward` on the tokens of all ranks, those
    of rank 0 first: routing, capacity and losses are those of the whole batch.

    Parameters
    ----------
    spec : LayerSpec
    params : mapping of str to array
        This rank's, see `shard`.
    x : (..., D) real
        This rank's tokens, perhaps none.  With two axes the whole batch is one batch row; with more, a rank has some of the rows.
    comm : Communicator
        `LocalComm`, `MPIComm`, ... or that of a virtual rank.
    noise, context
        As in `moespec.forward`, for this rank's tokens.
    rng : int, Generator or None
        The same on every rank: the noise of the whole batch is drawn, and a rank takes its part.
    training, backend, keep
        As in `moespec.forward`.
    ordered : bool
        Compute what reads replicated parameters from the tokens of all ranks, on every rank: no sum depends on how the batch is cut, so
        that all results are bit for bit those of `moespec.forward`.  It costs an all-gather of the tokens.
    chunks : int
        Cut the experts of a rank into so many parts: the rows of one travel while another is computed.
    check : bool
        Let the ranks compare what they are about to exchange, and checksums of the parameters that all have, if these are in host
        memory; a disagreement is a ValueError on every rank.

    Returns
    -------
    Out(y, routing, losses, values)
        Of this rank's tokens; the losses are those of the whole batch, the same on every rank.
    Saved
        For `backward`.

    Raises
    ------
    ValueError
        What `moespec.forward` refuses; ranks that disagree about the layer, its settings, the shape of the batch or the replicated parameters.
    """
    if chunks < 1:
        raise ValueError(f"forward: chunks={chunks} is below 1")
    chosen = get_backend(backend, like=x)
    link, dtype, kept = Link(comm, chosen, check=check), dtype_of(chosen, x), _kept(keep)
    replicated = [params[name] for name in sorted(params) if name not in sharded(spec)]
    batch = agree(link, spec, x, dtype, (training, kept, ordered, chunks, sorted(context or ())), replicated)
    context = context_of(spec, context or {}, x, chosen)
    require_params(params, shapes(spec, x.shape[-1], link.rank, link.size), x)
    noise = {n: chosen.from_numpy(a) for n, a in noise_of_part(spec, x, dtype, batch, noise, rng, training).items()}
    values = {"x": x.reshape((-1, x.shape[-1])), **params, **noise, **dict.fromkeys(REPLAY), **context}
    given = tuple(name for name, value in values.items() if value is not None)
    steps, reads, names = plan(spec, Call(batch, training, given, tuple(sorted(context)), ordered, chunks))
    require_read(context, reads)
    made = follows_of_part(spec, dtype, batch)
    read = {name for step in steps for name in step.reads.split()}
    values |= {name: chosen.from_numpy(make()) for name, make in made.items() if name in read and values.get(name) is None}
    resolve = resolver(chosen, link)
    trace = program.run(steps if keep == "all" else fuse(steps, chosen.ops(), kept), values, resolve)
    return results(spec, chosen, trace.values, names, x), Saved(spec, chosen, trace, tuple(params), tuple(x.shape), resolve, link)


def backward(saved, dy=None, *, dlosses=None, **cotangents):
    """Gradients of this rank's tokens and of every parameter that it holds.

    Parameters
    ----------
    saved : Saved
        From `forward`.
    dy : array like y, optional
        Of this rank's tokens; given on every rank or on none.
    dlosses : mapping of str to float, optional
        The same on every rank: a loss of the whole batch counts once.
    **cotangents : array
        Of this rank's part of any named real value, with a leading d.

    Returns
    -------
    Grads(x, params)
        The gradients of experts are this rank's, complete; those of all other parameters are complete and the same on every rank.

    Raises
    ------
    ValueError
        What `moespec.backward` refuses; cotangents, or `dlosses`, that differ between the ranks.
    """
    given = seeds(saved, dy, dlosses, cotangents)
    agree_backward(saved.link, given, dlosses)
    return gradients(saved, program.run_backward(saved.trace, given, saved.resolve, saved.backend.add))


def resolver(backend, link):
    """The look-up of a backend, with the ops of this room bound to a link and, where they run experts, to the backend's."""
    find = resolver_of(backend)

    def resolve(op, attrs):
        family, _, short = op.name.partition(".")
        if family != "parallel":
            return find(op, attrs)
        bound = {"link": link}
        if unit := EXPERTS.get(short.removeprefix("slots_")):
            bound["unit"] = find(unit, {name: value for name, value in attrs.items() if name != "chunks"})
        return Impl(partial(op.forward, **bound), op.backward)

    return resolve


def _kept(keep):
    return tuple(sorted([keep] if isinstance(keep, str) else keep))
