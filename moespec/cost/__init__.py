"""What a layer costs: operations, bytes of memory, bytes of network, and their ratios.

`layer` prices a program step by step, `compute_to_communication` sets its operations against what an expert-parallel run sends,
`collectives` are the exact bytes of an exchange per rank, `network` those of a whole layer, `statistics` says how evenly a routing loads the experts.
"""

from moespec.cost._bounds import Bounds, Times, bounds, expert_parallel
from moespec.cost._compare import active_width, dense, embedding, parameters
from moespec.cost._devices import DEVICES, Device, device
from moespec.cost._formula import formula
from moespec.cost._layer import LayerCost, Line, Work, layer
from moespec.cost._layouts import Layout, layouts
from moespec.cost._load import Load
from moespec.cost._network import Network, network
from moespec.cost._ratio import Ratio, compute_to_communication
from moespec.cost._report import report
from moespec.cost._statistics import Statistics, statistics
from moespec.cost.collectives import Exchange, Traffic, all_gather, all_reduce, all_to_all, blocks, count_exchange, exchange, reduce_scatter

__all__ = [
    "DEVICES", "Bounds", "Device", "Exchange", "LayerCost", "Layout", "Line", "Load", "Network", "Ratio", "Statistics", "Times", "Traffic", "Work",
    "active_width", "all_gather", "all_reduce", "all_to_all", "blocks", "bounds", "compute_to_communication", "count_exchange", "dense", "device",
    "embedding", "exchange", "expert_parallel", "formula", "layer", "layouts", "network", "parameters", "reduce_scatter", "report", "statistics",
]
