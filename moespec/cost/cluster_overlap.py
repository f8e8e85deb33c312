"""Overlap: rows in chunks, the exchange of one beside the computation of another."""

from __future__ import annotations

from moespec.cost._require import count


def pipelined(dispatch: float, experts: float, combine: float, chunks: int) -> float:
    """The time of `chunks` equal chunks, each of which takes `dispatch`, then `experts`, then `combine` seconds.

    Two things are busy one after the other: the network, in the order D1 D2 C1 D3 C2 ... Dn Cn-1 Cn, and the processor, E1 ... En.
    The recurrence is linear in the (max, +) algebra:

    .. math:: D_i = N + dispatch, \\quad E_i = \\max(D_i, E_{i-1}) + experts, \\quad C_i = \\max(N, E_i) + combine

    where N is the end of the line before on the network.  One chunk: the sum of the three.
    """
    count("pipelined", "chunks", chunks, least=1)
    if not all(time >= 0 for time in (dispatch, experts, combine)):
        raise ValueError(f"pipelined: dispatch={dispatch}, experts={experts}, combine={combine} are not times in seconds")
    network = computed = 0.0
    waiting = []                                  # ends of chunks that were computed and not yet combined
    for _ in range(chunks):
        network += dispatch
        computed = max(network, computed) + experts
        waiting.append(computed)
        if len(waiting) > 1:
            network = max(network, waiting.pop(0)) + combine
    return max(network, waiting[0]) + combine
