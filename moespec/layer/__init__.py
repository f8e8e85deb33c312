"""The layer: a declaration (`LayerSpec`), its program, forward and backward."""

from moespec.layer._capacity import Capacity, Loss
from moespec.layer._experts import Clamp, Experts, Latent, Shared
from moespec.layer._pooled import Pooled, pooled
from moespec.layer._router import Groups, Net, Norm, Router
from moespec.layer._routers import ExpertChoice, Given, Hierarchical, Soft
from moespec.layer._run import Grads, Out, backward, forward
from moespec.layer._spec import LayerSpec, Pool

__all__ = [
    "Capacity", "Clamp", "ExpertChoice", "Experts", "Given", "Grads", "Groups", "Hierarchical", "Latent", "LayerSpec", "Loss", "Net", "Norm",
    "Out", "Pool", "Pooled", "Router", "Shared", "Soft", "backward", "forward", "pooled",
]
