"""Compute and communication between MPI ranks on this machine, from one `mpiexec` run for each number of ranks.

Measured by `mpi_exchange.py` beside this package: exchanges of rows (Alltoallv), an expert's products, whole steps of both; alpha + beta *
bytes is fitted to the exchanges.  Everything shows n/a, with the reason on standard error, where mpi4py or an MPI is missing.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

from moespec.cost.calibrate import fit_link

sys.path.append(str(Path(__file__).parents[1]))          # asv knows this package only
from mpi_exchange import SIZES, TOKENS, start

RANKS = [2, 4]
SECONDS = 120


class Measured:
    """Runs once; its result goes to every benchmark."""

    version = "1"
    timeout = 2 * (SECONDS + 60)

    def setup_cache(self):
        return {ranks: measured(ranks) for ranks in RANKS}

    def run_of(self, cache, ranks):
        if isinstance(cache[ranks], str):
            raise NotImplementedError(cache[ranks])
        return cache[ranks]


def measured(ranks):
    """The measurement, or why there is none: nothing that MPI does may stop other benchmarks."""
    try:
        import_module("mpi4py")
        return start(ranks, ["--rounds", "10"], SECONDS)
    except (ImportError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"


class Exchange(Measured):
    """One exchange of rows, by what each peer gets."""

    params = (RANKS, [size >> 10 for size in SIZES])
    param_names = ("ranks", "KiB")

    def setup(self, cache, ranks, size):
        self.found = amount(self.run_of(cache, ranks)["exchange"], size << 10)

    def track_median(self, cache, ranks, size):
        return self.found["median"]

    def track_least(self, cache, ranks, size):
        return self.found["min"]

    track_median.unit = track_least.unit = "seconds"


class Step(Measured):
    """Dispatch, experts and combine, by tokens of a rank: the whole, and the experts' products alone."""

    params = (RANKS, list(TOKENS))
    param_names = ("ranks", "tokens")

    def setup(self, cache, ranks, tokens):
        run = self.run_of(cache, ranks)
        self.step, self.products = (amount(run[kind], tokens)["median"] for kind in ("step", "product"))

    def track_step(self, cache, ranks, tokens):
        return self.step

    def track_compute(self, cache, ranks, tokens):
        return self.products

    def track_communication(self, cache, ranks, tokens):
        return max(self.step - self.products, 0.0)

    track_step.unit = track_compute.unit = track_communication.unit = "seconds"


class Link(Measured):
    """alpha + beta * bytes, fitted to the medians of all sizes; beta beyond a knee, where the sizes need one, is a track of its own."""

    params = (RANKS,)
    param_names = ("ranks",)

    def setup(self, cache, ranks):
        rows = self.run_of(cache, ranks)["exchange"]
        self.link = fit_link([row["amount"] * (ranks - 1) for row in rows], [row["median"] for row in rows])

    def track_alpha(self, cache, ranks):
        return self.link.latency

    def track_beta(self, cache, ranks):
        return 1e9 / self.link.bandwidth

    def track_beta_beyond_the_knee(self, cache, ranks):
        return 1e9 / (self.link.beyond or self.link.bandwidth)

    track_alpha.unit = "seconds"
    track_beta.unit = track_beta_beyond_the_knee.unit = "seconds/GB"


def amount(rows, wanted):
    """The row of a size or a number of tokens."""
    return next(row for row in rows if row["amount"] == wanted)
