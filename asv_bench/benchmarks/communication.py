"""What published layers send and waste: bytes on the network, bytes per operation, dropped and padded rows, memory for backward.

Every value is computed from shapes and numbers of rows alone, lower is better, and every machine gets the same: `golden.json` pins them.
"""

import numpy as np

from moespec.cost import compute_to_communication, layer, statistics
from moespec.models import FAMILIES, mixtral, shazeer2017

RANKS = [2, 4, 8, 16, 32, 64, 128, 256]
WIDTHS = [256, 512, 1024, 2048, 4096, 8192, 16384]
TOKENS = [256, 1024, 4096, 16384]
PUBLISHED = {name: (FAMILIES[name].spec(), FAMILIES[name].d_model) for name in ("mixtral", "olmoe", "qwen3_moe", "gpt_oss", "deepseek_v3")}
PUBLISHED["shazeer2017"] = shazeer2017(), 512
COPIES = {"a row per expert": {}, "a row per rank": {"copies": "rank"}, "float8 there, bfloat16 back": {"wire": ("float8", "bfloat16")}}


class Deterministic:
    """Pinned in `golden.json`."""

    version = "1"
    timeout = 60


class Network(Deterministic):
    """Expert parallelism by number of ranks: a training step, every token choosing uniformly, rows in bfloat16."""

    params = (list(PUBLISHED), list(COPIES), RANKS)
    param_names = ("layer", "what travels", "ranks")

    def setup(self, name, what, ranks):
        spec, d_model = PUBLISHED[name]
        if ranks > spec.experts.n:
            raise NotImplementedError(f"{name} has {spec.experts.n} experts, fewer than {ranks} ranks")
        self.ratio = compute_to_communication(spec, d_model, ranks, **COPIES[what])

    def track_network_bytes_per_token(self, name, what, ranks):
        return sum(self.ratio.bytes)

    def track_bytes_per_flop(self, name, what, ranks):
        return self.ratio.bytes_per_flop

    track_network_bytes_per_token.unit = "bytes"
    track_bytes_per_flop.unit = "bytes/FLOP"


class ExpertWidth(Deterministic):
    """Bytes per operation by the width of an expert, in the limit of many ranks: the wider, the less the network counts."""

    params = (["ReLU (two matrices)", "SwiGLU (three matrices)"], WIDTHS)
    param_names = ("expert", "width")

    def track_bytes_per_flop(self, expert, width):
        spec = shazeer2017(width=width) if expert.startswith("ReLU") else mixtral(256, width, 4)
        return compute_to_communication(spec, 1024).bytes_per_flop

    track_bytes_per_flop.unit = "bytes/FLOP"


class Padding(Deterministic):
    """Rows that a capacity drops and leaves empty, under loads that fall off as a power of the expert's rank: 64 experts, 2 a token."""

    params = ([0.0, 0.25, 0.5, 1.0], [1.0, 1.25, 1.5, 2.0, 4.0])
    param_names = ("exponent of the load", "capacity factor")

    def setup(self, exponent, factor):
        loads = skewed(64, 4096 * 2, exponent)
        self.found = statistics(loads, capacity=int(factor * loads.sum() / len(loads)))

    def track_dropped_fraction(self, exponent, factor):
        return self.found.dropped

    def track_padding_waste(self, exponent, factor):
        return self.found.capacity_waste

    track_dropped_fraction.unit = "of the rows"
    track_padding_waste.unit = "of the places"


class Blocks(Deterministic):
    """Rows that padding to whole tiles of a kernel adds, by tokens: few rows an expert waste most."""

    params = (list(PUBLISHED), [16, 64, 128], TOKENS)
    param_names = ("layer", "rows of a tile", "tokens")

    def track_padding_waste(self, name, block, tokens):
        router, experts = PUBLISHED[name][0].router, PUBLISHED[name][0].experts
        return statistics(skewed(experts.n, tokens * router.k, 0.5), block=block).block_waste

    track_padding_waste.unit = "rows per row"


class Memory(Deterministic):
    """What the reference keeps for backward, by the cost formulas: bfloat16, 4096 tokens."""

    params = (list(PUBLISHED),)
    param_names = ("layer",)

    def track_saved_bytes_per_token(self, name):
        spec, d_model = PUBLISHED[name]
        return layer(spec, d_model, 4096, dtype="bfloat16").saved / 4096

    track_saved_bytes_per_token.unit = "bytes"


def skewed(experts, rows, exponent):
    """[E]: rows shared out in proportion to rank ** -exponent, what is left to the first experts."""
    shares = np.arange(1, experts + 1) ** -float(exponent)
    loads = np.floor(rows * shares / shares.sum()).astype(int)
    loads[:rows - loads.sum()] += 1
    return loads
