"""What the reproductions share around their training runs: one process a run, a report in JSON, means over seeds."""

import itertools
import json
import multiprocessing
import os
import platform
from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress


def options(doc, steps):
    """The command line: how many seeds and steps, and where the report and the figure go."""
    parser = ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--quick", action="store_true", help="one seed, six steps: does it run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the report (.json) and the figure (.png) there")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.steps = 1, 6
    return given


def run_all(simulate, settings, seeds, steps):
    """`simulate(setting, seed, steps)`, a dict, for every setting and seed: {setting: [result of seed 0, ...]}.

    The processes have one BLAS thread each: they share the processors among themselves.
    """
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    found = {setting: [None] * seeds for setting in settings}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool, \
            Progress(console=Console(stderr=True), transient=True) as bar:
        jobs = {pool.submit(simulate, setting, seed, steps): (setting, seed) for setting in settings for seed in range(seeds)}
        for job in bar.track(as_completed(jobs), total=len(jobs), description="training"):
            setting, seed = jobs[job]
            found[setting][seed] = job.result()
    return found


def mean_sd(runs, name, digits=2):
    """Mean (standard deviation) over the seeds."""
    values = np.array([run[name] for run in runs], float)
    return f"{values.mean():.{digits}f} ({values.std(ddof=min(1, len(values) - 1)):.{digits}f})"


def curve(runs, name):
    """(steps, mean, lowest, highest over the seeds) of a curve."""
    step, values = np.array(runs[0]["at"]), np.array([run[name] for run in runs])
    return step, values.mean(0), values.min(0), values.max(0)


def thin(values, steps, points=40):
    """(steps, means of equal stretches of a curve): at most `points` of them."""
    edges = np.unique(np.linspace(0, steps, min(points, steps) + 1).astype(int))
    return edges[1:].tolist(), [round(float(np.mean(values[a:b])), 4) for a, b in itertools.pairwise(edges)]


def show(given, name, found, table, figure, width, **more):
    """Print the table; with a folder given, the report and the figure go there."""
    Console(width=width).print(table(found))
    if given.out:
        write_report(given.out / f"{name}.json", found, given.steps, **more)
        figure(found, given.out / f"{name}.png")


def write_report(path, found, steps, **more):
    """The results as JSON, a line for each run; a setting's name is its fields joined by commas."""
    head = {"date": date.today().isoformat(), "python": platform.python_version(), "numpy": np.__version__, "steps": steps, **more}
    runs = (json.dumps(",".join(map(str, setting))) + ": [\n" + ",\n".join(map(json.dumps, results)) + "]" for setting, results in found.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(head)[:-1] + ', "runs": {\n' + ",\n".join(runs) + "}}\n")
