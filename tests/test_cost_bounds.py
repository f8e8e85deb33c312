"""Layouts, devices, and what bounds a layer on them."""

import math

import numpy as np
import pytest

from moespec import cost, layer, models

V3, WIDTH = models.FAMILIES["deepseek_v3"].spec(), models.FAMILIES["deepseek_v3"].d_model
SWITCH, D, TOKENS, CORES = models.switch2021(16, 64, factor=1.0), 32, 1024, 16
PER_CORE = TOKENS // CORES


def mean(traffic):
    return traffic.total / len(traffic.sent)


def found(model=1, spec=SWITCH, tokens=TOKENS, cores=CORES, **kwargs):
    return {x.name: x for x in cost.layouts(spec, D, tokens, cores, model=model, **kwargs)}


def test_layouts_without_experts_are_all_reduces():
    """Data: the dense layer's gradients; model: the activations after the second product, and before the first on the way back."""
    dense = cost.all_reduce(2 * D * 64, 2, CORES)
    assert found()["data"].forward == 0
    assert found()["data"].backward == mean(dense)
    whole = cost.all_reduce(TOKENS * D, 2, CORES)
    assert found()["model"].forward == found()["model"].backward == mean(whole)
    both = found(model=4)["model + data"]
    activations, gradients = cost.all_reduce(TOKENS // 4 * D, 2, 4), cost.all_reduce(2 * D * 64 // 4, 2, 4)
    assert both.forward == pytest.approx(mean(activations))
    assert both.backward == pytest.approx(mean(activations) + mean(gradients))


def test_expert_and_data_parallel_exchanges_full_buffers():
    """[E, C, D] leaves every core and comes back; backward again; the router is the only thing that all cores hold."""
    capacity = PER_CORE // 16
    buffers = np.full((CORES, 16), capacity)
    exchange = cost.exchange(buffers, 2 * D)
    one = found()["expert + data"]
    assert one.forward == mean(exchange.dispatch + exchange.combine)
    assert one.backward == pytest.approx(mean(exchange.backward) + mean(cost.all_reduce(D * 16, 2, CORES)))


def test_all_three_ways_add_an_all_reduce_of_the_experts_outputs():
    model, n = 2, 8
    one, capacity = found(model=model)["expert + model + data"], TOKENS // n // 16
    exchange = cost.exchange(np.full((n, 16), capacity), 2 * D)
    within = cost.all_reduce(16 * capacity * D, 2, model)
    assert one.forward == pytest.approx(mean(exchange.dispatch + exchange.combine) + mean(within))
    assert one.backward == pytest.approx(mean(exchange.backward) + mean(within) + mean(cost.all_reduce(D * 16, 2, n)))


def test_experts_that_several_cores_hold_add_up_their_gradients():
    """32 cores for 16 experts: two hold each, [D, F] and [F, D]."""
    one = found(cores=32)["expert + data"]
    exchanged = cost.exchange(np.full((16, 16), TOKENS // 32 // 16), 2 * D)
    assert one.backward == pytest.approx(mean(exchanged.backward) + mean(cost.all_reduce(D * 16, 2, 32)) + mean(cost.all_reduce(2 * D * 64, 2, 2)))


def test_without_a_capacity_the_rows_themselves_travel():
    spec = models.mixtral(16, 64, 2)
    one = found(spec=spec)["expert + data"]
    assert one.forward == 2 * PER_CORE * 2 * D * 2 * (1 - 1 / CORES)


def test_model_parallelism_alone_sends_most():
    """Every core sends activations of all tokens: the paper's reason to combine layouts."""
    sizes = {name: layout.both for name, layout in found(model=4).items()}
    assert max(sizes, key=sizes.get) == "model"
    assert sizes["model + data"] < sizes["model"] / 3


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"model": 3}, "layouts: model=3 does not divide the 16 cores"),
    ({"cores": 24}, "layouts: 24 cores do not divide tokens=1024"),
    ({"cores": 12, "tokens": 120}, "layouts: 12 groups of cores and 16 experts do not divide one another"),
    ({"tokens": -16}, "layouts: tokens=-16 is below 0"),
    ({"tokens": -16, "cores": -1}, "layouts: cores=-1 is below 1"),
    ({"spec": models.peer2024(16, 2)}, "layouts: one set of gated or plain experts is wanted, got kind='singleton'"),
])
def test_layouts_refuse(kwargs, message):
    with pytest.raises(ValueError, match=message):
        found(**kwargs)


# ---- devices -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", cost.DEVICES)
def test_devices_are_ordered_as_machines_are(name):
    """A number of fewer bits is no slower; memory is faster than links, links within a node than those between."""
    device = cost.device(name)
    ladder = [device.flops[d] for d in ("float64", "float32", "bfloat16") if d in device.flops]
    assert ladder == sorted(ladder)
    assert device.memory > device.within > (device.between or 0)
    assert device.source


def test_balance_of_an_h200():
    """989.4 TFLOP/s against 4.8 TB/s, 450 GB/s and 50 GB/s."""
    balance = cost.device("h200").balance("bfloat16")
    assert balance["memory"] == pytest.approx(206.1, abs=0.1)
    assert balance["within"] == pytest.approx(2198.7, abs=0.1)
    assert balance["between"] == pytest.approx(19788)


def test_unknown_devices_and_figures():
    with pytest.raises(ValueError, match="no device is called 'h300'; there are h100, h200"):
        cost.device("h300")
    with pytest.raises(ValueError, match="device k40 has no figure for bfloat16; it has float32, float64"):
        cost.device("k40").peak("bfloat16")


# ---- bounds --------------------------------------------------------------------------------------------------------

H200 = cost.Device("even", {"bfloat16": 1e12}, 1e9, 1e8, 1e7, 4, "made up")


def test_times_by_hand():
    """Two nodes of four: three of seven foreign ranks are near, four are far."""
    spec = layer.LayerSpec(layer.Router(k=2), layer.Experts(8, 64))
    row = cost.bounds(spec, 32, 128, 8, H200)
    priced = cost.layer(spec, 32, 128, dtype="bfloat16", ranks=8)
    assert row.forward.compute == priced.forward.flops / 1e12
    assert row.backward.memory == pytest.approx(priced.backward.bytes / 1e9)
    sent = 128 * 2 * 2 * 32 * 2 * 7 / 8
    assert row.forward.network == pytest.approx(max(sent * 3 / 7 / 1e8, sent * 4 / 7 / 1e7))
    assert row.forward.bound == max(("compute", "memory", "network"), key=lambda name: getattr(row.forward, name))
    assert row.forward.longest == getattr(row.forward, row.forward.bound)


def test_inside_a_node_only_its_links_count():
    spec = layer.LayerSpec(layer.Router(k=2), layer.Experts(8, 64))
    assert cost.bounds(spec, 32, 128, 4, H200).forward.network == pytest.approx(128 * 2 * 2 * 32 * 2 * (3 / 4) / 1e8)
    assert cost.bounds(spec, 32, 128, 1, H200).forward.network == 0


def test_more_ranks_than_experts_repeat_them():
    row = cost.bounds(V3, WIDTH, 64, 512, cost.device("h200"))
    assert row.expert_parallel == row.ratio.ranks == 256
    own, common = 3 * WIDTH * 2048, 3 * WIDTH * 2048 + WIDTH * 256 + 256
    assert row.gradients == pytest.approx(2 * (2 * common * (1 - 1 / 512) + 2 * own * (1 - 1 / 2)))
    assert cost.expert_parallel(V3, 600) == 200


def test_a_network_that_is_not_known_bounds_nothing():
    row = cost.bounds(models.shazeer2017(32, 1024), 512, 64, 32, cost.device("k40"), dtype="float32")
    assert row.forward.network is None
    assert row.forward.bound in ("compute", "memory")


def test_deepseek_v3_is_bound_by_the_network_between_nodes_and_less_so_when_it_limits_them():
    """At 64 H200 with eight-bit dispatch; four copies between nodes instead of eight halve the time, and a bit more."""
    free, limited = (cost.bounds(V3, WIDTH, 4096, 64, cost.device("h200"), wire=("float8", "bfloat16"), copies=c) for c in ("choice", "node"))
    assert free.forward.bound == "network"
    assert limited.forward.network == pytest.approx(free.forward.network / 2, rel=0.02)


# ---- the report ----------------------------------------------------------------------------------------------------

def test_the_report_adds_up():
    report = cost.report("v3", V3, WIDTH, 256, ranks=(1, 8), device=cost.device("h200"), cores=8)
    for way in ("forward", "backward"):
        for what in ("flops", "read", "written"):
            assert report["layer"][way][what] == pytest.approx(sum(s[way][what] for s in report["steps"]))
    assert report["layer"]["saved"] == sum(s["saved"] for s in report["steps"])
    alone, eight = report["ranks"]
    assert alone["flop_per_byte"]["forward"] is None
    assert alone["forward"]["network"] == 0
    assert eight["bytes_per_flop"] == pytest.approx(1 / eight["flop_per_byte"]["both"])
    assert [x["name"] for x in report["layouts"]][:2] == ["data", "model"]
    assert all(math.isfinite(x["forward"]) for x in report["layouts"])
