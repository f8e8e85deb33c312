"""One MoE layer on a cluster: the time of every phase, the slowest rank, what is hidden and what is not."""

from __future__ import annotations

import numpy as np

from moespec.cost._require import count
from moespec.cost._wire import width
from moespec.cost.cluster_expected import expected
from moespec.cost.cluster_limit import Limited
from moespec.cost.cluster_load import Load, Uniform
from moespec.cost.cluster_parts import Cluster
from moespec.cost.cluster_result import Phase, Simulation
from moespec.cost.cluster_traffic import COPIES, Flow, Level, counted
from moespec.cost.cluster_work import wires, work
from moespec.cost.placement import Placement, contiguous, eplb, round_robin

EXACT = 1 << 23                  # up to so many tokens times experts or ranks, tokens are drawn one by one
MOST = EXACT << 7                # and no further, even when asked to
FORMS = ("auto", "exact", "expected")
EQUAL = Uniform()


def simulate(cluster: Cluster, spec, d_model: int, tokens_per_rank: int, *, load: Load = EQUAL, placement: Placement | str = "contiguous",
             spare: int = 0, expert_parallel: int | None = None, node_limit: int | None = None, copies: str = "choice", overlap: int = 1,
             dtype: str = "bfloat16", wire=None, form: str = "auto", rng=0) -> Simulation:
    """Forward and backward of one layer in training, expert-parallel.

    Parameters
    ----------
    cluster : Cluster
    spec : LayerSpec
        Its tokens choose experts.  Capacity is not simulated: nothing is dropped.
    d_model, tokens_per_rank : int
    load : Uniform, Zipf or Trace
    placement : Placement or {"contiguous", "round_robin", "eplb"}
        Of the experts on the ranks of one expert-parallel group.  "eplb" knows the load.
    spare : int
        For "eplb": places on each rank beyond those that hold every expert once.
    expert_parallel : int, optional
        Ranks that together hold every expert; the cluster has as many such groups as fit.  By default all ranks are one group.
    node_limit : int, optional
        A token's experts lie on at most that many nodes.
    copies : {"choice", "rank", "node"}
        What is sent: a row for each choice, for each rank that a token needs, or for each node, passed on inside.
    overlap : int
        Chunks: one is exchanged while another is computed.
    dtype, wire : str
        Of what is computed; of rows on the network, or a pair: to the experts, and back (by default `dtype`).
    form : {"auto", "exact", "expected"}
        Tokens drawn one by one, or only the loads of the experts (see `cluster_expected.expected`).
    rng : int or numpy.random.Generator

    Raises
    ------
    ValueError
        Numbers that do not fit together, or a layer whose tokens do not choose.
    TypeError
        A load that is none; a number of something that is no integer.
    """
    if not isinstance(load, Load | Limited):
        raise TypeError(f"simulate: load={load!r} is no Uniform, Zipf or Trace")
    done = work(spec, d_model)
    group = cluster.ranks if expert_parallel is None else expert_parallel
    _check(cluster, group, tokens_per_rank, overlap, node_limit, copies, form)
    rng, per_node = np.random.default_rng(rng), min(cluster.per_node, group)
    nodes = group // per_node if node_limit else 1
    source: Load | Limited = load
    if node_limit:
        source = Limited(load, np.arange(done.experts) * nodes // done.experts, done.k, node_limit)       # which node is not known yet
    placed = _placed(placement, source, done, group, nodes, spare)
    if node_limit:
        source = Limited(load, _node_of(placed, per_node), done.k, node_limit)
    drawn = cluster.ranks * tokens_per_rank * max(done.experts, group)
    if form == "auto":
        form = "exact" if drawn <= EXACT else "expected"
    elif form == "exact" and drawn > MOST:
        raise ValueError(f"simulate: form='exact' would draw {drawn} numbers, more than {MOST}; form='expected' needs none of them")
    make = _exact if form == "exact" else expected
    flow = make(rng, source, placed, per_node, copies, tokens_per_rank, done.k, cluster.ranks // group)
    flow = _joined([flow], lambda parts: np.broadcast_to(parts[0], flow.rows.shape).reshape(-1))
    into, back = wires(dtype, wire)
    row_bytes = done.into * into, done.out * back
    phases = tuple(_phases(cluster, done, flow, tokens_per_rank, overlap, width("simulate", dtype), row_bytes))
    return Simulation(phases, overlap, form, flow, row_bytes, placed)


def _check(cluster, group, tokens, overlap, limit, copies, form):
    for name, value, least in (("expert_parallel", group, 0), ("tokens_per_rank", tokens, 1), ("overlap", overlap, 1),
                               ("node_limit", 1 if limit is None else limit, 1)):
        count("simulate", name, value, least=least)
    for name, given, known in (("copies", copies, COPIES), ("form", form, FORMS)):
        if given not in known:
            raise ValueError(f"simulate: {name}={given!r} is none of {', '.join(known)}")
    if group < 1 or cluster.ranks % group:
        raise ValueError(f"simulate: expert_parallel={group} does not divide {cluster.ranks} ranks")
    if group != cluster.ranks and max(group, cluster.per_node) % min(group, cluster.per_node):
        raise ValueError(f"simulate: expert_parallel={group} ranks do not fill nodes of {cluster.per_node}")
    if copies == "node" and group > cluster.per_node and group % cluster.per_node:
        raise ValueError(f"simulate: copies='node' needs full nodes, got {group} ranks in nodes of {cluster.per_node}")


def _placed(placement, load, done, group, nodes, spare):
    """The placement of one expert-parallel group; balanced within each of `nodes` equal groups of experts."""
    if spare and placement != "eplb":
        raise ValueError(f"simulate: spare={spare} places are for placement='eplb'")
    if isinstance(placement, Placement):
        if (placement.ranks, placement.experts) != (group, done.experts):
            raise ValueError(f"simulate: a placement of {placement.experts} experts on {placement.ranks} ranks; the layer has {done.experts}, "
                             f"the group {group} (slots has shape {placement.slots.shape})")
        return placement
    if placement == "eplb":
        return eplb(load.inclusion(done.experts, done.k), group, slots=-(-done.experts // group) + spare, nodes=nodes, groups=nodes)
    if placement not in ("contiguous", "round_robin"):
        raise ValueError(f"simulate: placement={placement!r} is none of contiguous, round_robin, eplb")
    return (contiguous if placement == "contiguous" else round_robin)(done.experts, group)


def _node_of(placement, per_node):
    """[E]: the node of each expert; its replicas are on the same one."""
    rank, slot = np.nonzero(placement.slots >= 0)
    expert, node = placement.slots[rank, slot], rank // per_node
    first = np.zeros(placement.experts, np.int64)
    first[expert] = node
    if (first[expert] != node).any():
        raise ValueError("simulate: node_limit needs the replicas of an expert on one node: eplb(..., nodes=, groups=)")
    return first


def _exact(rng, load, placement, per_node, copies, tokens, k, groups):
    """Arrays [groups, R]."""
    found = [counted(rng, load.draw(rng, placement.ranks * tokens, placement.experts, k), placement, per_node, copies) for _ in range(groups)]
    return _joined(found, np.stack)


def _joined(flows, join):
    """One flow of several: `join` makes an array of each list of arrays."""
    intra, inter = (Level(*map(join, zip(*levels, strict=True))) for levels in zip(*((f.intra, f.inter) for f in flows), strict=True))
    return Flow(join([f.rows for f in flows]), join([f.hit for f in flows]), intra, inter)


def _phases(cluster, done, flow, tokens, chunks, itemsize, row_bytes):
    """The time of one chunk in every phase."""
    def exchange(size):
        return np.maximum(*(link.seconds(level.rows / chunks * size, level.messages)
                            for link, level in ((cluster.intra, flow.intra), (cluster.inter, flow.inter))))
    into, back = exchange(row_bytes[0]), exchange(row_bytes[1])
    for number, direction, before, after in ((0, "forward", "dispatch", "combine"), (1, "backward", "combine", "dispatch")):
        factor = 1 + number                                                       # backward reads and writes twice as much
        local = factor * itemsize * (done.common + tokens * (done.into + done.out))
        size = factor * itemsize * (flow.hit * done.expert + flow.rows / chunks * (done.into + done.out + done.hidden))
        route = Phase("route", direction, np.full(flow.rows.shape, float(cluster.seconds(done.token[number] * tokens, local))))
        experts = Phase("experts", direction, cluster.seconds(done.row[number] * flow.rows / chunks, size))
        own = route, Phase(before, direction, into), experts, Phase(after, direction, back)
        yield from own if direction == "forward" else (*own[1:], route)
