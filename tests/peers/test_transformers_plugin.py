"""moespec as an experts implementation of transformers: every class of theirs against its own eager form, and models that train."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from moespec.interop import transformers as plugin  # noqa: E402

BACKENDS = {"numpy": "numpy", "numba": "moespec_numba:BACKEND"}
E, D, F = 4, 6, 5
CAST = ("BeamExperts", "Inkling2Experts", "Inkling2LoopExperts", "MuseSparkExperts", "OpenAIPrivacyFilterExperts")     # to float32 on their way
ANSWERS = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), E),
    **dict.fromkeys(("hidden_size", "moe_hidden_size"), D), **dict.fromkeys(("intermediate_size", "moe_intermediate_size"), F),
    "moe_latent_size": None, "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "mlp_hidden_act": "relu2", "mlp_bias": False,
    "swiglu_limit": 0.5, "swiglu_alpha": 1.702, "mlp_gate_softcap": 0.7, "mlp_up_softcap": 1.5, "post_norm_eps": 1e-6, "rms_norm_eps": 1e-6,
    "_experts_implementation": "eager",
}


class Config:
    """Answers what an experts class reads."""

    def __init__(self, **over):
        self.__dict__.update(ANSWERS | over)


def classes():
    """Every decorated class of the installed transformers, as module:class."""
    models = Path(importlib.util.find_spec("transformers").origin).parent / "models"
    for path in sorted(models.glob("*/modeling_*.py")):
        for name in re.findall(r"^@use_experts_implementation.*\nclass (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield f"transformers.models.{path.parent.name}.{path.stem}:{name}"


def build(where, dtype=torch.float64, **over):
    """An experts module with drawn parameters."""
    module, _, name = where.partition(":")
    made = getattr(importlib.import_module(module), name)(Config(**over)).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for p in made.parameters():
        p.data.normal_(0, 0.7, generator=generator)
    return made


def routing(tokens=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x, weights = torch.randn(tokens, D, generator=generator, dtype=dtype), torch.rand(tokens, 2, generator=generator, dtype=dtype)
    ids = torch.rand(tokens, E, generator=generator).argsort(1)[:, :2]
    ids[ids == 2] = 1                                                    # an idle expert, and repeated ids
    return x, ids, weights


def run(module, implementation, x, ids, weights):
    """y and every gradient."""
    module.config._experts_implementation = implementation
    x, weights = x.clone().requires_grad_(), weights.clone().requires_grad_()
    y = module(x, ids, weights)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    params = list(module.parameters())
    return [y.detach(), *torch.autograd.grad((y * dy).sum(), [x, weights, *params])]


def close(got, want, limit):
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= limit * b.abs().max()


@pytest.mark.parametrize("where", list(classes()), ids=lambda w: w.partition(":")[2])
def test_every_class_of_theirs(where):
    """In float64."""
    plugin.register("numpy", "moespec-numpy")
    module = build(where)
    limit = 1e-6 if where.partition(":")[2] in CAST else 1e-13
    close(run(module, "moespec-numpy", *routing()), run(module, "eager", *routing()), limit)


LAYOUTS = {"plain": "qwen3_moe.modeling_qwen3_moe:Qwen3MoeExperts", "interleaved": "gpt_oss.modeling_gpt_oss:GptOssExperts",
           "no gate": "nemotron_h.modeling_nemotron_h:NemotronHExperts", "norm after": "muse_spark.modeling_muse_spark:MuseSparkExperts"}
LIMITS = {which: 1e-6 if which == "norm after" else 1e-12 for which in LAYOUTS}            # their norm casts to float32


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", LAYOUTS)
def test_every_layout_in_single_precision(which, backend):
    pytest.importorskip(backend)
    plugin.register(BACKENDS[backend], f"moespec-{backend}")
    module, given = build(f"transformers.models.{LAYOUTS[which]}", torch.float32), routing(dtype=torch.float32)
    close(run(module, f"moespec-{backend}", *given), run(module, "eager", *given), 1e-5)


@pytest.mark.parametrize("weights_dtype", [torch.bfloat16, torch.float32])
def test_half_precision(weights_dtype):
    plugin.register("numpy", "moespec-numpy")
    module, (x, ids, weights) = build(f"transformers.models.{LAYOUTS['interleaved']}", torch.bfloat16), routing()
    x, weights = x.to(torch.bfloat16), weights.to(weights_dtype)
    got = run(module, "moespec-numpy", x, ids, weights)
    want = run(module.double(), "eager", x.double(), ids, weights.double())
    assert [a.dtype for a in got[:3]] == [torch.bfloat16, torch.bfloat16, weights_dtype]
    close([y.double() for y in got], want, 2.0**-6)
    assert (got[0].double() - want[0]).abs().max() < 2.0**-8 * want[0].abs().max()


@pytest.mark.parametrize("which", LAYOUTS)
def test_a_choice_of_another_rank_contributes_nothing(which):
    plugin.register("numpy", "moespec-numpy")
    module = build(f"transformers.models.{LAYOUTS[which]}")
    module._is_expert_parallel = True
    x, ids, weights = routing()
    ids = torch.where(torch.arange(2) == 1, E, ids)
    weights = torch.where(ids == E, 0.0, weights)
    got = run(module, "moespec-numpy", x, ids, weights)
    close(got, run(module, "batched_mm", x, ids, weights), LIMITS[which])
    assert (got[2][:, 1] == 0).all()


def model(family):
    """A small model with random parameters."""
    import transformers
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2, "initializer_range": 0.3}
    torch.manual_seed(0)
    if family == "qwen3_moe":
        config = transformers.Qwen3MoeConfig(**sizes, moe_intermediate_size=12, num_experts=E)
        return transformers.Qwen3MoeForCausalLM(config)
    config = transformers.GptOssConfig(**sizes, num_local_experts=E, sliding_window=8)
    return transformers.GptOssForCausalLM(config)


def curve(family, implementation, steps=8):
    trained = model(family)
    trained.set_experts_implementation(implementation)
    optimiser = torch.optim.Adam(trained.parameters(), 1e-2)
    ids = torch.randint(0, 32, (2, 16), generator=torch.Generator().manual_seed(3))
    losses = []
    for _ in range(steps):
        loss = trained(input_ids=ids, labels=ids).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_a_model_follows_the_eager_loss_curve(family, backend):
    pytest.importorskip(backend)
    plugin.register(BACKENDS[backend], f"moespec-{backend}")
    want, got = curve(family, "eager"), curve(family, f"moespec-{backend}")
    assert want[-1] < 0.8 * want[0]
    assert got == pytest.approx(want, rel=1e-3)


def test_the_configuration_selects_it_too():
    import transformers
    plugin.register("numpy", "moespec-numpy")
    small = model("qwen3_moe")
    ids = torch.arange(8)[None]
    want = small(input_ids=ids).logits
    again = transformers.AutoModelForCausalLM.from_config(small.config, experts_implementation="moespec-numpy")
    again.load_state_dict(small.state_dict())
    assert again.config._experts_implementation == "moespec-numpy"
    assert torch.allclose(again(input_ids=ids).logits, want, atol=1e-5)


def qwen(**over):
    module = build(f"transformers.models.{LAYOUTS['plain']}", **over)
    module.config._experts_implementation = "moespec-numpy"
    return module


def refused(module, pattern, error=NotImplementedError, tensors=None):
    plugin.register("numpy", "moespec-numpy")
    with pytest.raises(error, match=pattern):
        module(*(tensors or routing()))


def test_a_gate_that_no_form_has_is_refused():
    module = qwen()
    module._apply_gate = lambda packed: torch.tanh(packed[:, :F]) * packed[:, F:]
    refused(module, r"^Qwen3MoeExperts: moespec cannot represent these experts: its gate is no form of experts.glu \(activation SiLU\w*, limit none")


@pytest.mark.parametrize("gate", [
    lambda g, u: torch.nn.functional.silu(g).clamp(max=7.0) * u,                                  # a number that it does not tell
    lambda g, u: torch.nn.functional.silu(g) * u.detach(),                                        # the right value, another slope
    lambda g, u: torch.nn.functional.silu(u) * g,                                                 # up and gate exchanged
    lambda g, u: torch.nn.functional.silu(g) * (u + 0.5),
], ids=["hidden_limit", "detached", "exchanged", "offset"])
def test_nothing_is_taken_for_a_plain_swiglu(gate):
    module = qwen()
    module._apply_gate = lambda packed: gate(*packed.chunk(2, -1))
    refused(module, "its gate is no form of experts.glu")


def test_what_is_exchanged_later_is_noticed():
    plugin.register("numpy", "moespec-numpy")
    module = build(f"transformers.models.{LAYOUTS['interleaved']}")
    for limit in (0.5, 0.25):
        module.limit = limit
        close(run(module, "moespec-numpy", *routing()), run(module, "eager", *routing()), 1e-12)
    module = qwen()
    module(*routing())
    module.act_fn = torch.nn.Tanh()
    refused(module, "activation Tanh")


def test_a_wrong_layout_flag_is_refused():
    module = build(f"transformers.models.{LAYOUTS['interleaved']}")
    module.is_concatenated, module.config._experts_implementation = True, "moespec-numpy"
    refused(module, "GptOssExperts: .* its gate is no form of experts.glu")


def test_other_experts_are_refused():
    refused(qwen(hidden_act="tanh"), r"activation Tanh")
    module = build(f"transformers.models.{LAYOUTS['no gate']}", mlp_hidden_act="tanh")
    module.config._experts_implementation = "moespec-numpy"
    refused(module, r"NemotronHExperts: .* its activation Tanh is none of identity, relu, relu2")
    module = qwen()
    module.act_fn = torch.nn.PReLU().double()
    refused(module, "its activation PReLU has parameters")
    module = qwen()
    del module.has_bias
    refused(module, "it has no has_bias: is it decorated")
    module = qwen()
    module.has_bias = True
    refused(module, "Qwen3MoeExperts: gate_up_proj_bias is NoneType, wanted a plain tensor")


def test_tensors_that_the_backend_does_not_own_are_refused():
    x, ids, weights = routing()
    refused(qwen(), "hidden_states is on meta, backend 'numpy' works on the CPU", TypeError, (x.to("meta"), ids, weights))
    refused(qwen().to("meta"), "gate_up_proj is on meta", TypeError)
    refused(qwen(), "hidden_states is complex128, backend 'numpy' works on bfloat16, float16", TypeError, (x.to(torch.complex128), ids, weights))


def test_names_of_theirs_are_refused():
    for name in ("eager", "grouped_mm"):
        with pytest.raises(ValueError, match=f"^register: '{name}' is an experts implementation of transformers' own"):
            plugin.register("numpy", name)
    with pytest.raises(ValueError, match="no backend is called 'acme'"):
        plugin.register("acme")


def test_parameters_overwritten_before_backward_are_reported():
    plugin.register("numpy", "moespec-numpy")
    module = qwen()
    y = module(*routing())
    with torch.no_grad():
        module.down_proj.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused():
    plugin.register("numpy", "moespec-numpy")
    module, (x, ids, weights) = qwen(), routing()
    first, = torch.autograd.grad(module(x.requires_grad_(), ids, weights).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
