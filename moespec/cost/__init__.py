"""What a layer costs: operations, bytes of memory, bytes of network, and their ratios."""

from moespec.cost.collectives import Exchange, Traffic, all_gather, all_reduce, all_to_all, blocks, count_exchange, exchange, reduce_scatter

__all__ = ["Exchange", "Traffic", "all_gather", "all_reduce", "all_to_all", "blocks", "count_exchange", "exchange", "reduce_scatter"]
