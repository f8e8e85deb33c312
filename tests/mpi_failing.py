"""One rank of a job in which rank 1 fails: the job must end by itself, and not well."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from moespec.parallel import Link, MPIComm


def meet(comm):
    Link(comm).all_gather("meet", np.zeros(1), [1] * comm.size)


def raises(comm):
    if comm.rank == 1:
        raise KeyError("lost")
    meet(comm)


def exits(comm):
    if comm.rank == 1:
        sys.exit(3)
    meet(comm)


def killed(comm):
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    meet(comm)


def stalls(comm):
    """The launcher ends it."""
    if comm.rank == 1:
        time.sleep(1000)
    meet(comm)


def gives_up(comm):
    """The ranks that wait end it."""
    comm.timeout = 0.5
    stalls(comm)


def mismatch(comm):
    """Both ranks refuse it, before a row moves."""
    receive = np.array([2, 2] if comm.rank else [2, 3])
    try:
        Link(comm).exchange("rows", np.zeros((4, 3)), np.array([2, 2]), receive)
    finally:
        assert not comm.traffic.sent["rows"]


def main(case, reasons):
    """Run a case; the reason goes to a file, since a job that is aborted may lose what it has not printed yet."""
    comm = MPIComm()
    try:
        globals()[case](comm)
    except BaseException as reason:
        (Path(reasons) / str(comm.rank)).write_text(f"{type(reason).__name__}: {reason}")
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
