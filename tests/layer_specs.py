"""A small layer for every field of the declaration, and what it needs to run."""

import numpy as np

from moespec.layer import (
    Capacity,
    Clamp,
    ExpertChoice,
    Experts,
    Given,
    Groups,
    Latent,
    LayerSpec,
    Loss,
    Net,
    Norm,
    Pool,
    Router,
    Shared,
    Soft,
)

D = 6
GLU = Experts(4, 5)
SIGMOID = Router(k=2, score="sigmoid")
SPECS = {
    "router_bias": LayerSpec(Router(net=Net(bias=True), over="selected"), GLU),
    "router_norm": LayerSpec(Router(net=Net(norm=Norm(factor=0.5)), expert_scale=True, norm="sum"), GLU),
    "multiplier_and_cap": LayerSpec(Router(net=Net(multiplier=0.5, cap=2.0)), GLU),
    "mlp": LayerSpec(Router(net=Net("mlp", hidden=3, norm=Norm())), GLU),
    "mlp_with_memory": LayerSpec(Router(net=Net("mlp", hidden=3, memory=True)), GLU),
    "product_keys": LayerSpec(Router(k=2, over="selected", net=Net("product_keys")), Experts(9, kind="singleton")),
    "sigmoid": LayerSpec(SIGMOID, GLU),
    "sigmoid_over_selected": LayerSpec(Router(score="sigmoid", over="selected", norm="sum"), GLU),
    "sqrt_softplus": LayerSpec(Router(score="sqrt_softplus", norm="sum", eps=1e-20, scale=1.5), GLU),
    "correction": LayerSpec(Router(score="sigmoid", correction=True, norm="sum", scale=2.5), GLU),
    "correction_of_logits": LayerSpec(Router(score="sigmoid", over="selected", correction=True), GLU),
    "groups": LayerSpec(Router(score="sigmoid", correction=True, groups=Groups(2, 1)), GLU),
    "groups_by_maximum": LayerSpec(Router(groups=Groups(2, 1, "max", "raw", 0.0)), GLU),
    "lp": LayerSpec(Router(norm="lp", p=3.0), GLU),
    "scaled_sum": LayerSpec(Router(score="sigmoid", scale=2.0, scale_at="sum"), GLU),
    "learned_scale": LayerSpec(Router(learned_scale=True, norm="sum"), GLU),
    "weigh_input": LayerSpec(Router(k=1, score="sigmoid", over="selected", weigh="input"), GLU),
    "gaussian": LayerSpec(Router(noise="gaussian", noise_scale=0.25), GLU),
    "gumbel": LayerSpec(Router(noise="gumbel"), GLU),
    "sparsemixer": LayerSpec(Router(select="sparsemixer", threshold=0.1), GLU),
    "relu": LayerSpec(Router(select="relu"), GLU),
    "top_p": LayerSpec(Router(k=3, select="top_p", p=0.6), GLU),
    "assign": LayerSpec(Router(k=1, score="sigmoid", over="selected", select="assign"), GLU),
    "sinkhorn": LayerSpec(Router(select="sinkhorn"), GLU),
    "table": LayerSpec(Router(select="table", vocab=7, score="sqrt_softplus", norm="sum"), GLU),
    "hash": LayerSpec(Given("input_ids", k=2, vocab=7), GLU),
    "by_row": LayerSpec(Given("dataset_index"), GLU),
    "expert_choice": LayerSpec(ExpertChoice(2.0), GLU),
    "expert_choice_over_the_batch": LayerSpec(ExpertChoice(1.0, scope="batch", score="sigmoid"), Experts(4, 5, "ffn", "relu", bias=True)),
    "depths": LayerSpec(ExpertChoice(0.5, score="none"), Experts(1, 5)),
    "soft": LayerSpec(Soft(2), GLU),
    "soft_of_unit_length": LayerSpec(Soft(1, normalize=True, scope="batch"), GLU),
    "clamped": LayerSpec(Router(), Experts(4, 5, bias=True, clamp=Clamp(limit=0.7, alpha=1.7, up_offset=1.0))),
    "clamped_after": LayerSpec(Router(), Experts(4, 5, clamp=Clamp(limit=0.5, at="post"))),
    "capped": LayerSpec(Router(), Experts(4, 5, clamp=Clamp(cap_gate=1.0, cap_up=2.0))),
    "latent": LayerSpec(Router(), Experts(4, 5, latent=Latent(4, norm=Norm(offset=1.0), bias=True), norm=Norm(offset=1.0, scale_at="input"))),
    "partial": LayerSpec(Given("dataset_index"), Experts(4, 5, "linear", "gelu", bias=True, partial=2)),
    "copies": LayerSpec(Router(k=3, correction=True), Experts(3, 5, copies=2)),
    "constants_and_nothing": LayerSpec(Router(k=4, norm="sum"), Experts(3, 5, copies=1, constants=2, zeros=1)),
    "shared": LayerSpec(Router(), GLU, shared=(Shared(4), Shared(3, "ffn", "relu2", bias=True))),
    "shared_gated": LayerSpec(Router(), GLU, shared=(Shared(4, gate="sigmoid"),)),
    "shared_mean": LayerSpec(Router(), GLU, shared=(Shared(4),), combine="mean"),
    "shared_weighted": LayerSpec(Router(score="sigmoid", correction=True, scale=2.0, learned_scale=True), GLU,
                                 shared=(Shared(4, gate="router", n=2),)),
    "normed_and_biased": LayerSpec(Router(), GLU, shared=(Shared(4),), norm=Norm(), output_bias=True),
    "pools": LayerSpec(Router(), GLU, pool=Pool(Router(k=1), Experts(3, 4)), shared=(Shared(4),)),
    "fixed_capacity": LayerSpec(Router(k=1), GLU, Capacity(fixed=2, scope="row", order="token")),
    "loss_of_logits": LayerSpec(Router(score="sigmoid", correction=True), GLU, losses=(Loss("losses.load_balance", 0.5, source="logits"),)),
    "loss_of_scores": LayerSpec(Router(score="sigmoid", correction=True), GLU, losses=(Loss("losses.sequence_balance", 0.5, source="scores"),)),
}


def prepared(spec, seed=0, tokens=(2, 6)):
    rng = np.random.default_rng(seed)
    params = {k: v + 0.3 * rng.standard_normal(v.shape) if v.dtype.kind == "f" else v for k, v in spec.init(D, rng=rng).items()}
    n = int(np.prod(tokens))
    made = {"input_ids": rng.integers(0, 7, tokens), "dataset_index": rng.integers(0, 4, tokens[0]),
            "moe_mm_token_type_ids": rng.integers(0, 2, tokens), "router_states": rng.standard_normal((*tokens, 3))}
    wanted = (*spec.context, *(["router_states"] if getattr(getattr(spec.router, "net", None), "memory", False) else []))
    noise = spec.draw(n, D, rng=rng)
    if "heun" in noise:
        noise["heun"][:] = 0.9                            # the estimator is the derivative only where it does not damp the forward
    given = {"noise": noise, "context": {name: made[name] for name in wanted}, "training": True}
    return params, rng.standard_normal((*tokens, D)), given, rng
