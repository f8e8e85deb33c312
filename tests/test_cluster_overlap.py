"""The formula of overlap beside a small simulation of events."""

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moespec.cost.cluster import pipelined

times = st.integers(0, 50)


def events(dispatch, experts, combine, chunks):
    """Two workers with a list of tasks each, in order; a task starts when its worker is free and the task before of its chunk is done."""
    network = [("D", 0)]
    for i in range(1, chunks):
        network += [("D", i), ("C", i - 1)]
    network.append(("C", chunks - 1))
    lists = {"network": network, "processor": [("E", i) for i in range(chunks)]}
    length, needs = {"D": dispatch, "E": experts, "C": combine}, {"E": "D", "C": "E"}
    done, busy, clock = set(), {"network": False, "processor": False}, [(0, 0, None, None)]
    serial = 1
    now = 0
    while clock:
        now, _, worker, task = heapq.heappop(clock)
        if task is not None:
            done.add(task)
            busy[worker] = False
        for name, tasks in lists.items():
            ready = tasks and not busy[name] and (tasks[0][0] == "D" or (needs[tasks[0][0]], tasks[0][1]) in done)
            if ready:
                task = tasks.pop(0)
                busy[name] = True
                heapq.heappush(clock, (now + length[task[0]], serial, name, task))
                serial += 1
    assert not any(lists.values())
    return now


@settings(max_examples=300, deadline=None)
@given(times, times, times, st.integers(1, 9))
def test_formula_is_what_events_give(dispatch, experts, combine, chunks):
    assert pipelined(dispatch, experts, combine, chunks) == events(dispatch, experts, combine, chunks)


@settings(max_examples=100, deadline=None)
@given(times, times, times, st.integers(1, 9))
def test_bounds(dispatch, experts, combine, chunks):
    found = pipelined(dispatch, experts, combine, chunks)
    assert found >= max(chunks * (dispatch + combine), dispatch + chunks * experts + combine)
    assert found <= chunks * (dispatch + experts + combine)


def test_limits_by_hand():
    assert pipelined(2, 3, 4, 1) == 9                  # one chunk hides nothing
    assert pipelined(1, 10, 1, 5) == 1 + 50 + 1        # computation hides everything but the first dispatch and the last combine
    assert pipelined(10, 1, 10, 5) == 100              # the network hides computation
    assert pipelined(4, 3, 4, 2) == 16
    with pytest.raises(ValueError, match="chunks=0 is below 1"):
        pipelined(1, 1, 1, 0)
    with pytest.raises(ValueError, match="experts=nan"):
        pipelined(1, float("nan"), 1, 2)
