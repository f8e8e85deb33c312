"""A cluster that is not here: what a layer's phases take on ranks and nodes, predicted.

Cluster, Link, cluster_of     the machine
Uniform, Zipf, Trace          who is chosen how often
contiguous, round_robin, eplb where the experts are
simulate                      times of forward and backward, rank by rank
reached                       ranks or nodes that a token needs, in closed form
pipelined                     overlap by chunks
"""

from moespec.cost.cluster_limit import Limited, reached
from moespec.cost.cluster_load import Trace, Uniform, Zipf
from moespec.cost.cluster_overlap import pipelined
from moespec.cost.cluster_parts import Cluster, Link, cluster_of
from moespec.cost.cluster_result import Phase, Simulation
from moespec.cost.cluster_simulate import simulate
from moespec.cost.placement import Placement, contiguous, eplb, round_robin

__all__ = ["Cluster", "Limited", "Link", "Phase", "Placement", "Simulation", "Trace", "Uniform", "Zipf", "cluster_of", "contiguous", "eplb",
           "pipelined", "reached", "round_robin", "simulate"]
