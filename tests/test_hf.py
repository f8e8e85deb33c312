"""Checkpoints: layouts and their inverses, folders of safetensors, and what is refused."""

import json

import numpy as np
import pytest

from moespec import models
from moespec.interop import hf
from moespec.interop.hf._layout import Tensor
from moespec.interop.hf._tensors import layouts
from moespec.layer._params import integers, parameter_shapes

D = 16
SMALL = {
    **dict.fromkeys(("hidden_size", "d_model"), D), **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts"), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4), "router_hidden_size": 6, "moe_hidden_size": 8,
    "intermediate_size": 6, "moe_intermediate_size": 6, "expert_ffn_hidden_size": 6, "ffn_hidden_size": 6, "d_ff": 6, "encoder_ffn_dim": 6,
    "shared_expert_intermediate_size": 10, "moe_shared_expert_intermediate_size": 10, "shared_intermediate_size": 10, "share_expert_dim": 10,
    "shared_experts_intermediate_size": 10, "n_group": 2, "topk_group": 1, "zero_expert_num": 2, "vocab_size": 5, "part_features": 4, "mlp_ratio": 1,
}


def config(name):
    sizes = models.FAMILIES[name].sizes
    small = {key: SMALL.get(key, value) if value is not None else value for key, value in sizes.items()}
    return small | ({"moe_intermediate_size": [6, 4]} if name == "ernie4_5_vl_moe" else {})


def drawn(spec, seed=0):
    rng, ids = np.random.default_rng(seed), integers(spec)
    return {n: rng.integers(0, ids[n], s) if n in ids else rng.standard_normal(s) for n, s in parameter_shapes(spec, D).items()}


WAYS = [(name, n) for name in models.FAMILIES for n in range(len(layouts(name)))]


@pytest.mark.parametrize(("name", "layout"), WAYS)
def test_load_undoes_export(name, layout):
    spec = hf.spec(name, config(name))
    params = drawn(spec)
    tensors = hf.export(spec, params, layout=layout)
    again, back = hf.load(name, config(name), tensors)
    assert again == spec
    assert list(back) == list(params)
    assert all(np.array_equal(back[n], params[n]) for n in params)


@pytest.mark.parametrize("name", models.FAMILIES)
def test_export_is_linear(name):
    spec = hf.spec(name, config(name))
    a, b = drawn(spec, 1), drawn(spec, 2)
    both = hf.export(spec, {n: 2 * a[n] + b[n] for n in a})
    parts = [hf.export(spec, p) for p in (a, b)]
    assert all(np.array_equal(both[n], 2 * parts[0][n] + parts[1][n]) for n in both)


def test_alternating_columns_are_taken_apart():
    t = Tensor("gate_up", ("g", "u"), split="alternating")
    found = t.read([np.arange(8.0).reshape(1, 2, 4)], {"g": (1, 2, 2), "u": (1, 2, 2)})
    assert found["g"].tolist() == [[[0, 2], [4, 6]]]
    assert found["u"].tolist() == [[[1, 3], [5, 7]]]


def test_fused_rows_are_gate_then_up_transposed():
    t = Tensor("gate_up", ("g", "u"), swap=True, split="parts", axis=-2)
    found = t.read([np.arange(8.0).reshape(1, 4, 2)], {"g": (1, 2, 2), "u": (1, 2, 2)})
    assert found["g"].tolist() == [[[0, 2], [1, 3]]]
    assert found["u"].tolist() == [[[4, 6], [5, 7]]]


def test_spare_experts_are_left_out_and_written_as_zeros():
    spec = hf.spec("longcat_flash", config("longcat_flash"))
    tensors = hf.export(spec, drawn(spec))
    assert tensors["experts.gate_up_proj"].shape == (6, 12, D)
    assert not tensors["experts.gate_up_proj"][4:].any()
    assert tensors["experts.down_proj"].shape == (4, D, 6)


def tensors_of(name, layout=0):
    return hf.export(hf.spec(name, config(name)), drawn(hf.spec(name, config(name))), layout=layout)


def test_what_is_wrong_with_tensors_is_named():
    tensors = tensors_of("mixtral")
    less = {n: t for n, t in tensors.items() if n != "gate.weight"}
    with pytest.raises(ValueError, match=r"hf: mixtral: missing tensors \['gate.weight'\], unknown tensors \['gate.bias'\]"):
        hf.load("mixtral", config("mixtral"), less | {"gate.bias": np.zeros(4)})
    with pytest.raises(ValueError, match=r"hf: mixtral: experts.down_proj has shape \(4, 6, 16\), wanted \(4, 16, 6\)"):
        hf.load("mixtral", config("mixtral"), tensors | {"experts.down_proj": np.zeros((4, 6, D))})
    with pytest.raises(ValueError, match="hf: no family is called 'mixtrall'"):
        hf.load("mixtrall", {}, tensors)
    with pytest.raises(ValueError, match="hf: mixtral has 2 layouts, got layout=3"):
        hf.export(hf.spec("mixtral", config("mixtral")), {}, layout=3)


# ---- folders ---------------------------------------------------------------------------------------------------------

def folder(tmp_path, name, layers, layout=0, shards=1, prefix="model.layers.{}.mlp."):
    from safetensors.numpy import save_file
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name, **config(name)}))
    every = {}
    for n in layers:
        spec = hf.spec(name, config(name), n)
        every |= {prefix.format(n) + key: t.astype("float32") for key, t in hf.export(spec, drawn(spec, n), layout=layout).items()}
        every[f"model.layers.{n}.self_attn.q_proj.weight"] = np.zeros((2, 2), "float32")
    names = sorted(every)
    files = [f"model-{i}.safetensors" for i in range(shards)]
    placed = {n: files[i % shards] for i, n in enumerate(names)}
    for file in files:
        save_file({n: every[n] for n in names if placed[n] == file}, tmp_path / file)
    if shards > 1:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return tmp_path


@pytest.mark.parametrize(("name", "layout", "shards", "prefix"), [
    ("qwen3_moe", 0, 1, "model.layers.{}.mlp."),
    ("qwen3_moe", 1, 3, "model.layers.{}.mlp."),
    ("mixtral", 1, 2, "model.layers.{}.block_sparse_moe."),
    ("granitemoe", 1, 1, "model.layers.{}.block_sparse_moe."),
    ("lfm2_moe", 1, 1, "model.layers.{}.feed_forward."),
    ("nemotron_h", 1, 2, "backbone.layers.{}.mixer."),
    ("switch_transformers", 0, 1, "encoder.block.{}.layer.1.mlp."),
    ("deepseek_v3", 1, 4, "model.layers.{}.mlp."),
    ("gpt_oss", 0, 2, "model.layers.{}.mlp."),
    ("qwen3_vl_moe", 0, 1, "model.language_model.layers.{}.mlp."),
])
def test_one_layer_of_a_folder(tmp_path, name, layout, shards, prefix):
    path = folder(tmp_path, name, (1, 11), layout, shards, prefix)
    for n in (1, 11):
        spec, params = hf.read(path, n)
        wanted = drawn(spec, n)
        assert spec == hf.spec(name, config(name))
        assert all(np.array_equal(params[k], wanted[k].astype("float32")) for k in wanted)
    assert hf.read(path, 1, dtype="float64")[1]["router.w"].dtype == np.float64


def test_a_layer_without_experts_and_a_quantised_tensor_are_refused(tmp_path):
    path = folder(tmp_path, "qwen3_moe", (1,))
    with pytest.raises(ValueError, match=r"layer 2 holds no MoE block of qwen3_moe \(looked for gate.weight"):
        hf.read(path, 2)
    file = path / "model-0.safetensors"
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = raw[8:8 + size].replace(b'"F32"', b'"F4" ')
    file.write_bytes(raw[:8] + header + raw[8 + size:])
    with pytest.raises(ValueError, match="is stored as F4, which has to be dequantised first"):
        hf.read(path, 1)
    with pytest.raises(FileNotFoundError):
        hf.read(tmp_path / "nowhere", 1)


def test_bfloat16_is_read_as_it_is_stored(tmp_path):
    import ml_dtypes
    path = folder(tmp_path, "qwen3_moe", (0,))
    file = path / "model-0.safetensors"
    raw = np.arange(4, dtype=np.float32).astype(ml_dtypes.bfloat16)
    header = json.dumps({"model.layers.0.mlp.gate.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + raw.tobytes())
    from moespec.interop.hf._read import _index, _tensor
    (name, place), = _index(path).items()
    assert np.array_equal(_tensor(place, name), raw)


def test_a_declaration_without_a_family_cannot_be_exported_without_naming_one():
    from dataclasses import replace
    spec = hf.spec("mixtral", config("mixtral"))
    params, nobody = drawn(spec), replace(spec, family="")
    with pytest.raises(ValueError, match="hf: export needs a family: '' is not one of afmoe, "):
        hf.export(nobody, params)
    tensors = hf.export(nobody, params, family="mixtral")
    assert {n: t.tobytes() for n, t in tensors.items()} == {n: t.tobytes() for n, t in hf.export(spec, params).items()}
