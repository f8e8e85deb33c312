"""Losses: of the mixtures of 1991 and 1994, and those that balance experts.  Each returns a scalar and states its normaliser.

cooperation, specialisation, mixture_nll, mixture_nll_classification    Jacobs et al. 1991, eqs 1.1-1.3
mixture_likelihood, gaussian_log_likelihood    of any gate and any experts, with the responsibilities: Jordan and Jacobs 1994
importance_cv2, load, load_cv2, hierarchical_load_cv2, batchwise_threshold    Shazeer et al. 2017
load_balance    Switch Transformers
sequence_balance, device_balance, communication_balance    DeepSeek: per sequence, per device, per device sent to
global_balance, pooled_balance    counts of the global batch; rows of all layers together
heterogeneous_balance    MoE++: experts that cost nothing weigh less
gate_l1, router_entropy    what holds ReLU and top-p routing sparse
z_loss          ST-MoE
"""

from moespec.losses import (
    _batchwise_threshold,
    _communication_balance,
    _cooperation,
    _device_balance,
    _gate_l1,
    _gaussian_log_likelihood,
    _global_balance,
    _heterogeneous_balance,
    _hierarchical_load_cv2,
    _importance_cv2,
    _load,
    _load_balance,
    _load_cv2,
    _mixture_likelihood,
    _mixture_nll,
    _mixture_nll_classification,
    _pooled_balance,
    _router_entropy,
    _sequence_balance,
    _specialisation,
    _z_loss,
)
from moespec.losses._batchwise_threshold import batchwise_threshold, batchwise_threshold_backward
from moespec.losses._communication_balance import communication_balance, communication_balance_backward
from moespec.losses._cooperation import cooperation, cooperation_backward
from moespec.losses._device_balance import device_balance, device_balance_backward
from moespec.losses._gate_l1 import gate_l1, gate_l1_backward, sparsity_coefficient
from moespec.losses._gaussian_log_likelihood import gaussian_log_likelihood, gaussian_log_likelihood_backward
from moespec.losses._global_balance import global_balance, global_balance_backward
from moespec.losses._heterogeneous_balance import heterogeneous_balance, heterogeneous_balance_backward
from moespec.losses._hierarchical_load_cv2 import HierarchicalLoadCv2, hierarchical_load_cv2, hierarchical_load_cv2_backward
from moespec.losses._importance_cv2 import importance_cv2, importance_cv2_backward
from moespec.losses._load import Load, load, load_backward
from moespec.losses._load_balance import load_balance, load_balance_backward
from moespec.losses._load_cv2 import LoadCv2, load_cv2, load_cv2_backward
from moespec.losses._mixture_likelihood import MixtureLikelihood, mixture_likelihood, mixture_likelihood_backward
from moespec.losses._mixture_nll import mixture_nll, mixture_nll_backward
from moespec.losses._mixture_nll_classification import mixture_nll_classification, mixture_nll_classification_backward
from moespec.losses._pooled_balance import pooled_balance, pooled_balance_backward
from moespec.losses._router_entropy import router_entropy, router_entropy_backward
from moespec.losses._sequence_balance import sequence_balance, sequence_balance_backward
from moespec.losses._specialisation import specialisation, specialisation_backward
from moespec.losses._z_loss import z_loss, z_loss_backward

OPS = {op.short: op for op in (
    _cooperation.OP, _specialisation.OP, _mixture_nll.OP, _mixture_nll_classification.OP, _importance_cv2.OP, _load.OP, _load_cv2.OP,
    _hierarchical_load_cv2.OP, _load_balance.OP, _z_loss.OP, _batchwise_threshold.OP, _global_balance.OP, _device_balance.OP,
    _communication_balance.OP, _heterogeneous_balance.OP, _sequence_balance.OP, _pooled_balance.OP, _router_entropy.OP, _gate_l1.OP,
    _mixture_likelihood.OP, _gaussian_log_likelihood.OP)}

__all__ = [
    "OPS", "HierarchicalLoadCv2", "Load", "LoadCv2", "MixtureLikelihood", "batchwise_threshold", "batchwise_threshold_backward",
    "communication_balance", "communication_balance_backward", "cooperation", "cooperation_backward", "device_balance", "device_balance_backward",
    "gate_l1", "gate_l1_backward", "gaussian_log_likelihood", "gaussian_log_likelihood_backward", "global_balance", "global_balance_backward",
    "heterogeneous_balance", "heterogeneous_balance_backward", "hierarchical_load_cv2", "hierarchical_load_cv2_backward", "importance_cv2",
    "importance_cv2_backward", "load", "load_backward", "load_balance", "load_balance_backward", "load_cv2", "load_cv2_backward",
    "mixture_likelihood", "mixture_likelihood_backward", "mixture_nll", "mixture_nll_backward", "mixture_nll_classification",
    "mixture_nll_classification_backward", "pooled_balance", "pooled_balance_backward", "router_entropy", "router_entropy_backward",
    "sequence_balance", "sequence_balance_backward", "sparsity_coefficient", "specialisation", "specialisation_backward", "z_loss",
    "z_loss_backward",
]
