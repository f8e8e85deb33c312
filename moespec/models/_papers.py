"""The layers of the founding papers, as declarations."""

from __future__ import annotations

from moespec.layer import Capacity, ExpertChoice, Experts, Given, Hierarchical, LayerSpec, Loss, Net, Router, Shared, Soft


def jacobs1991(n=4, *, features=None, loss="mixture_nll", sigma=1.0, bias=True) -> LayerSpec:
    """Adaptive mixture of local experts: a dense softmax gate over linear experts (Jacobs, Jordan, Nowlan and Hinton 1991).

    `loss` is one of ``cooperation`` (eq. 1.1), ``specialisation`` (1.2), ``mixture_nll`` (1.3); it reads ``target``.
    """
    attrs = (("sigma", sigma),) if loss == "mixture_nll" else ()
    return LayerSpec(router=Router(k=n, select="all", dtype="float32"), experts=Experts(n, kind="linear", bias=bias, features=features),
                     losses=(Loss(f"losses.{loss}", attrs=attrs),))


def shazeer2017(n=256, width=1024, k=4, *, w_importance=0.1, w_load=0.1, floor=0.01) -> LayerSpec:
    """The sparsely-gated layer, flat: noisy top-k gating, importance and load losses (Shazeer et al. 2017)."""
    return LayerSpec(router=Router(k=k, over="selected", noise="softplus", floor=floor, init="zeros"),
                     experts=Experts(n, width, kind="ffn", activation="relu"),
                     losses=(Loss("losses.importance_cv2", w_importance), Loss("losses.load_cv2", w_load)))


def shazeer2017_hierarchical(n=256, width=1024, groups=16, k=2, *, w_importance=0.1, w_load=0.1, floor=0.01) -> LayerSpec:
    """The sparsely-gated layer with two levels (Shazeer et al. 2017, Appendix B)."""
    level = Router(k=k, over="selected", noise="softplus", floor=floor, init="zeros")
    return LayerSpec(router=Hierarchical(groups, level, level), experts=Experts(n, width, kind="ffn", activation="relu"),
                     losses=(Loss("losses.importance_cv2", w_importance), Loss("losses.hierarchical_load_cv2", w_load)))


def shazeer2017_balanced(n=256, width=1024, k=4, *, w_thresholds=1.0) -> LayerSpec:
    """The sparsely-gated layer with strictly balanced, batch-wise gating (Shazeer et al. 2017, Appendix F)."""
    return LayerSpec(router=Router(k=k, select="batchwise"), experts=Experts(n, width, kind="ffn", activation="relu"),
                     losses=(Loss("losses.batchwise_threshold", w_thresholds),))


def gshard2020(n=128, width=8192, *, coef=0.01) -> LayerSpec:
    """GShard: top-2, normalised before the drop, random second choice (Lepikhin et al. 2020, algorithm 1).

    The loss counts first choices; a skipped second choice takes no place in the buffers (as in the Mesh code; the paper's pseudo-code can
    be read either way).
    """
    return LayerSpec(router=Router(k=2, norm="sum", accept="gshard"), experts=Experts(n, width, kind="ffn", activation="relu"),
                     capacity=Capacity(formula="gshard", order="choice"),
                     losses=(Loss("losses.load_balance", coef, (("choices", 1),)),))


def switch2021(n=128, width=2048, *, factor=1.25, eval_factor=2.0, jitter=0.01, dropout=0.0, coef=0.01, z_coef=0.0,
               reroute=False, init_scale=0.1) -> LayerSpec:
    """Switch Transformer's FFN (Fedus, Zoph and Shazeer 2021).

    Top-1 with the unnormalised probability, multiplicative input jitter, float32 router beside any input dtype (selective
    precision), capacity factor, auxiliary loss, reduced initialisation scale; `dropout` is the expert dropout of
    fine-tuning, `reroute` is No-Token-Left-Behind, `z_coef` adds the router z-loss of ST-MoE.
    """
    losses = (Loss("losses.load_balance", coef),) + ((Loss("losses.z_loss", z_coef),) if z_coef else ())
    return LayerSpec(router=Router(k=1, jitter=jitter, dtype="float32"),
                     experts=Experts(n, width, kind="ffn", activation="relu", dropout=dropout),
                     capacity=Capacity(factor, formula="switch", eval_factor=eval_factor, reroute=reroute),
                     losses=losses, init_scale=init_scale)


def mixtral(n=8, width=14336, k=2) -> LayerSpec:
    """Mixtral's block: softmax over the selected two, SwiGLU experts, dropless (Jiang et al. 2024)."""
    return LayerSpec(router=Router(k=k, over="selected"), experts=Experts(n, width, kind="glu", activation="silu"))


# ---- later ways to route ---------------------------------------------------------------------------------------------

def base2021(n=128, width=8192) -> LayerSpec:
    """BASE: a balanced assignment of tokens to experts in training, the best expert in evaluation (Lewis et al. 2021)."""
    return LayerSpec(router=Router(k=1, score="sigmoid", over="selected", select="assign"), experts=Experts(n, width, kind="ffn", activation="relu"))


def hash2021(n=128, width=8192, *, vocab=50257) -> LayerSpec:
    """Hash layers: a table of token ids chooses the expert, nothing is learned (Roller et al. 2021)."""
    return LayerSpec(router=Given(by="input_ids", vocab=vocab), experts=Experts(n, width, kind="ffn", activation="relu"))


def vmoe2021(n=32, width=4096, k=2, *, factor=1.05, weight=0.005) -> LayerSpec:
    """V-MoE: fixed Gaussian noise, softmax before top-k, batch-prioritised places (Riquelme et al. 2021)."""
    return LayerSpec(router=Router(k=k, noise="gaussian", noise_scale=1 / n), experts=Experts(n, width, kind="ffn", activation="gelu"),
                     capacity=Capacity(factor, formula="ceil", multiple=4, order="batch"), losses=(Loss("losses.importance_cv2", weight),))


def expert_choice2022(n=64, width=8192, *, factor=2.0) -> LayerSpec:
    """Every expert takes its best tokens (Zhou et al. 2022)."""
    return LayerSpec(router=ExpertChoice(factor), experts=Experts(n, width, kind="ffn", activation="gelu"))


def sbase2022(n=128, width=8192, k=1) -> LayerSpec:
    """Sinkhorn-balanced routing in training; the weights are the router's own probabilities (Clark et al. 2022)."""
    return LayerSpec(router=Router(k=k, select="sinkhorn"), experts=Experts(n, width, kind="ffn", activation="gelu"))


def soft_moe2023(n=128, width=3072, slots=1) -> LayerSpec:
    """Soft MoE, with unit lengths (Puigcerver et al. 2023)."""
    return LayerSpec(router=Soft(slots, normalize=True), experts=Experts(n, width, kind="ffn", activation="gelu", bias=True))


def deepseekmoe2024(n=64, width=1408, k=6, shared=2, *, coef=0.001) -> LayerSpec:
    """DeepSeekMoE: fine-grained experts beside shared ones, softmax before top-k without renormalisation (Dai et al. 2024)."""
    return LayerSpec(router=Router(k=k), experts=Experts(n, width), shared=(Shared(shared * width),), losses=(Loss("losses.load_balance", coef),))


def mod2024(width=8192, *, share=0.125) -> LayerSpec:
    """Mixture-of-depths: one expert, and an eighth of the tokens (Raposo et al. 2024); what is left out is the residual's."""
    return LayerSpec(router=ExpertChoice(share, score="none"), experts=Experts(1, width, kind="ffn", activation="gelu"))


def peer2024(n=1 << 20, k=16) -> LayerSpec:
    """PEER, one head: single neurons found by product keys (He 2024)."""
    return LayerSpec(router=Router(k=k, over="selected", net=Net("product_keys")), experts=Experts(n, kind="singleton", activation="gelu"))


def top_p2024(n=16, width=5632, p=0.4, *, coef=0.01) -> LayerSpec:
    """As many experts as it takes for their probabilities to sum to p (Huang et al. 2024)."""
    return LayerSpec(router=Router(k=n, select="top_p", p=p), experts=Experts(n, width), losses=(Loss("losses.load_balance", coef),))


def remoe2024(n=8, width=3072) -> LayerSpec:
    """ReMoE: a ReLU decides how many experts a token has (Wang et al. 2024); see `losses.gate_l1` for its regulariser."""
    return LayerSpec(router=Router(k=n, select="relu"), experts=Experts(n, width))
