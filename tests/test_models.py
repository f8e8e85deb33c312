"""The table of published layers: every entry is a declaration that can be written down, built, priced and said in words."""

import json
import re

import pytest

from moespec import models
from moespec.cli import main
from moespec.interop import hf
from moespec.layer import LayerSpec
from moespec.program import lookup

SPECS = {name: family.spec() for name, family in models.FAMILIES.items()} | {name: make() for name, make in models.PAPERS.items()}


@pytest.mark.parametrize("name", SPECS)
def test_json_round_trip(name):
    assert LayerSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


@pytest.mark.parametrize("name", SPECS)
def test_program_is_a_straight_line_of_known_operations(name):
    spec = SPECS[name]
    for training in (False, True):
        steps = spec.program(64, rows=2, training=training, context=("target",))
        assert all(lookup(s.op) for s in steps)
        assert sum("y" in s.writes.split() for s in steps) == 1


@pytest.mark.parametrize("name", SPECS)
def test_page_says_what_the_layer_is_and_costs(name, capsys):
    assert main(["models", name]) == 0
    text = capsys.readouterr().out
    assert "flop forward" in text
    assert "router" in text
    assert main(["models", name, "--json"]) == 0
    assert LayerSpec.from_dict(json.loads(capsys.readouterr().out)) == SPECS[name]


def test_the_list_has_every_family_and_paper(capsys):
    assert main(["models"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert set(listed) == set(SPECS)


def test_unknown_name(capsys):
    assert main(["models", "mixtrall"]) == 2
    assert "no model is called 'mixtrall'" in capsys.readouterr().err


def test_a_configuration_without_what_the_family_needs_is_refused_by_name():
    with pytest.raises(ValueError, match="hf: qwen3_moe: the configuration has none of 'num_local_experts'"):
        hf.spec("qwen3_moe", {"num_experts_per_tok": 2, "moe_intermediate_size": 8})
    with pytest.raises(ValueError, match="hf: qwen3_moe: hidden_act='quick_gelu' is not a value that its declaration knows"):
        hf.spec("qwen3_moe", models.FAMILIES["qwen3_moe"].sizes | {"hidden_act": "quick_gelu"})
    with pytest.raises(ValueError, match="hf: nllb_moe: second_expert_policy='sampling' is not a value"):
        hf.spec("nllb_moe", models.FAMILIES["nllb_moe"].sizes | {"second_expert_policy": "sampling"})
    with pytest.raises(ValueError, match="hf: no family is called 'qwen9'"):
        hf.spec("qwen9", {})


def test_a_composite_configuration_is_read_where_the_experts_are():
    nested = {"model_type": "qwen3_vl_moe", "hidden_size": 1, "text_config": models.FAMILIES["qwen3_vl_moe"].sizes}
    assert hf.spec("qwen3_vl_moe", nested) == SPECS["qwen3_vl_moe"]


def test_layers_of_one_model_may_differ():
    family = models.FAMILIES["deepseek_v4"]
    assert family.spec(layer=0).router.select == "table"
    assert family.spec(layer=3).router.select == "topk"


@pytest.mark.parametrize(("layer", "message"), [
    ("-1", "there is no layer -1: the first is 0"), ("999", r"there is no layer 999: \w+ has \d+ values")])
def test_a_layer_that_is_not_there_is_refused(layer, message, capsys):
    assert main(["models", "deepseek_v4", "--layer", layer]) == 2
    assert re.search(message, capsys.readouterr().err)
