"""What devices do at most: figures of their makers, dense, per device; bandwidths of links are those of one direction.

Most were written down without looking at the sheet again; docs/cost.md says which were compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Device:
    """Peaks of one device.

    Attributes
    ----------
    flops : mapping of str to float
        Operations per second by dtype, with matrix units, without structured sparsity.
    memory : float
        Bytes per second.
    within, between : float, optional
        Bytes per second of a device's links to others, each way: inside a node of `per_node` devices, and between nodes; None is not known.
    source : str
        Where a figure is to be checked, not that it was.
    """

    name: str
    flops: Mapping[str, float]
    memory: float
    within: float
    between: float | None
    per_node: int
    source: str

    def peak(self, dtype: str) -> float:
        """Operations per second."""
        if dtype not in self.flops:
            raise ValueError(f"device {self.name} has no figure for {dtype}; it has {', '.join(self.flops)}")
        return self.flops[dtype]

    def balance(self, dtype: str) -> dict[str, float | None]:
        """FLOP per byte at which computing takes as long as moving: of memory, of the links within a node, of those between nodes."""
        peak = self.peak(dtype)
        return {"memory": peak / self.memory, "within": peak / self.within, "between": peak / self.between if self.between else None}


def _half(tera, **others):
    return {"bfloat16": tera * TERA, "float16": tera * TERA} | {name: t * TERA for name, t in others.items()}


DEVICES = {d.name: d for d in (
    Device("h100", _half(989.4, float32=66.9, float64=66.9), 3350 * GIGA, 450 * GIGA, 50 * GIGA, 8,
           "NVIDIA H100 Tensor Core GPU data sheet, SXM; DGX H100 user guide: an adapter of 400 Gb/s per GPU"),
    Device("h200", _half(989.4, float32=66.9, float64=66.9), 4800 * GIGA, 450 * GIGA, 50 * GIGA, 8,
           "NVIDIA H200 Tensor Core GPU data sheet, SXM; DGX H200 user guide: an adapter of 400 Gb/s per GPU"),
    Device("a100", _half(312, float32=19.5, float64=19.5), 2039 * GIGA, 300 * GIGA, 25 * GIGA, 8,
           "NVIDIA A100 Tensor Core GPU data sheet, SXM 80 GB; DGX A100 user guide: an adapter of 200 Gb/s per GPU"),
    Device("b200", _half(2250, float32=80, float64=40), 8000 * GIGA, 900 * GIGA, 50 * GIGA, 8,
           "NVIDIA Blackwell architecture technical brief, HGX B200; DGX B200 user guide: an adapter of 400 Gb/s per GPU"),
    Device("mi300x", _half(1307.4, float32=163.4, float64=163.4), 5300 * GIGA, 448 * GIGA, 50 * GIGA, 8,
           "AMD Instinct MI300X data sheet: seven links of 64 GB/s each way; an adapter of 400 Gb/s per GPU is assumed"),
    Device("k40", {"float32": 4.29 * TERA, "float64": 1.43 * TERA}, 288 * GIGA, 15.75 * GIGA, None, 8,
           "NVIDIA Tesla K40 board specification: PCI Express 3.0, 16 lanes; Shazeer et al. 2017 do not give their network"),
    Device("tpu-v3", {"bfloat16": 123 * TERA}, 900 * GIGA, 328 * GIGA, None, 1024,
           "Cloud TPU v3 documentation, per chip; Jouppi et al. 2020: four links of 656 Gb/s, a two-dimensional torus"),
    Device("cpu", {"float32": 2 * TERA, "float64": 1 * TERA}, 200 * GIGA, 50 * GIGA, 12.5 * GIGA, 2,
           "no product: round figures of a server socket with two sockets a node and an adapter of 100 Gb/s"),
)}


def device(name: str) -> Device:
    """A device of the table."""
    if name not in DEVICES:
        raise ValueError(f"no device is called {name!r}; there are {', '.join(DEVICES)}")
    return DEVICES[name]
