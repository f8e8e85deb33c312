"""The specification of Mixture-of-Experts layers, as code.

Families are loaded when first used: `moespec.gates`, `moespec.dispatch`, `moespec.experts`, `moespec.losses` (the
operations), `moespec.layer` (`LayerSpec`, `forward`, `backward`), `moespec.models` (published layers), `moespec.parallel`
(the same over ranks), `moespec.conformance` (is this kernel right?), `moespec.fit` (the classical mixtures).
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = ("gates", "dispatch", "experts", "losses", "registry", "backend", "layer", "models", "parallel", "conformance", "cost", "fit", "corpus",
            "indexing", "numerics", "op", "pairs", "program")
_NAMES = {
    "OPS": "registry", "get_backend": "backend",
    **dict.fromkeys(("LayerSpec", "Router", "ExpertChoice", "Soft", "Hierarchical", "Given", "Experts", "Shared", "Capacity", "Loss", "forward",
                     "backward"), "layer"),
}
__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"moespec.{name}")
    if name in _NAMES:
        return getattr(import_module(f"moespec.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'moespec' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
