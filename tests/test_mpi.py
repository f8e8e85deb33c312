"""Expert parallelism under a real mpiexec: every job is a process group of its own, with a time limit."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parallel_cases import whole
from test_cost_network import by_rank, formula, merged

HERE = Path(__file__).parent
# One of every kind of routing.
ROUTED = ("switch2021,gshard2020,shazeer2017_hierarchical,shazeer2017_balanced,expert_choice2022,soft_moe2023,sbase2022,peer2024,top_p2024,"
          "hash2021,jacobs1991,latent,pools,shared_weighted,switch2021_dropout")
TRAFFIC = "mixtral,switch2021,gshard2020,vmoe2021,expert_choice2022,soft_moe2023,top_p2024,hash2021,deepseekmoe2024,pools,latent,peer2024"

WAIT = 300              # seconds that a job of a hundred layers may take on a machine that is busy
SUMMED = "switch2021,deepseekmoe2024,latent"


def launcher():
    """mpiexec beside this Python, which belongs to the same MPI as its mpi4py; else that of PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


pytestmark = pytest.mark.skipif(launcher() is None or importlib.util.find_spec("mpi4py") is None,
                                reason="no mpiexec or no mpi4py: the extra `mpi-test` installs both")


def start(ranks, script, *arguments, limit=WAIT, runner=("-m", "mpi4py")):
    environment = {**os.environ, "MPIEXEC_TIMEOUT": str(limit), "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [launcher(), "-n", str(ranks), sys.executable, *runner, str(HERE / script), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(job, limit=WAIT):
    """Exit status, output and errors; a job that outlives its limit by 15 s is a failure."""
    try:
        out, err = job.communicate(timeout=limit + 15)
    except subprocess.TimeoutExpired:
        job.kill()
        pytest.fail("the job hangs")
    return job.returncode, out, err


@pytest.fixture(scope="module", params=[1, 2, 4])
def job(request):
    """What rank 0 of a job with so many ranks found; one launch for all cases."""
    n = request.param
    once = {1: [], 2: ["leak", f"summed:{ROUTED}:1"], 4: ["late", f"summed:{SUMMED}:2"]}[n]
    code, out, err = finish(start(n, "mpi_worker.py", str(n), "dtypes", f"ordered:{ROUTED}:1", f"traffic:{TRAFFIC}", *once))
    assert code == 0, err
    return n, json.loads(out.splitlines()[-1])


def test_results_are_those_of_one_process(job):
    """Asserted by the ranks: every kind of routing bit for bit if ordered, to rounding if sums are all-reduced; a late rank changes nothing."""
    n, found = job
    assert found["ordered"]
    assert n == 1 or found["summed"]
    assert n < 4 or found["late"]


def test_every_dtype_arrives(job):
    assert job[1]["dtypes"]


def test_a_thousand_exchanges_leave_nothing_behind(job):
    """KiB by which a process grew; 800 leaked messages would be 25 MiB."""
    assert job[1].get("leak", 0) < 2048


def test_bytes_are_those_of_the_formula(job):
    ranks, found = job
    sizes = found["traffic"]["sizes"]
    for name, counted in found["traffic"]["layers"].items():
        counted = [({n: b for n, b in sent.items() if b}, {n: b for n, b in received.items() if b}) for sent, received in counted]
        assert counted == by_rank(merged(formula(whole(name, (12,)), sizes)), ranks), name


# The reason of the rank that ends the job, where it can still give one.
FAILING = {"raises": "KeyError: 'lost'", "plain raises": "KeyError: 'lost'", "exits": "SystemExit: 3", "killed": "",
           "gives_up": "TimeoutError: MPIComm: rank", "mismatch": "ValueError: rows: rank 1 sends 2 rows to rank 0, which expects 3"}
LIMIT = 120


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Every failing job, side by side: status, what it printed, the ranks' reasons."""
    folders = {case: tmp_path_factory.mktemp(case.replace(" ", "_")) for case in FAILING}
    jobs = {case: start(2, "mpi_failing.py", case.removeprefix("plain "), str(folder), limit=LIMIT,
                        runner=() if case.startswith("plain ") else ("-m", "mpi4py")) for case, folder in folders.items()}
    ended = {case: finish(job, LIMIT) for case, job in jobs.items()}
    return {case: (code, out + err, [f.read_text() for f in folders[case].iterdir()]) for case, (code, out, err) in ended.items()}


@pytest.mark.parametrize("case", FAILING)
def test_a_rank_that_fails_ends_the_job(case, failed):
    """Non-zero, before the launcher's time limit, and with the reason."""
    code, printed, reasons = failed[case]
    assert code != 0
    assert case == "killed" or any(FAILING[case] in reason for reason in reasons)
    assert "TIMED OUT" not in printed


def test_a_rank_that_stalls_is_ended_by_the_launcher(tmp_path):
    code, out, err = finish(start(2, "mpi_failing.py", "stalls", str(tmp_path), limit=4), 4)
    assert code != 0
    assert "TIMED OUT" in out + err


def test_one_process_without_mpiexec():
    """A plain `python` is a job of one rank."""
    code = ("import numpy as np; from moespec import models, parallel; s = models.mixtral(4, 5); p = s.init(6, rng=0);"
            "o, k = parallel.forward(s, p, np.ones((3, 6)), comm=parallel.MPIComm()); print(parallel.backward(k, o.y).x.shape)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.strip() == "(3, 6)", done.stderr


def test_timeout_must_be_positive():
    from moespec.parallel import MPIComm
    with pytest.raises(ValueError, match="timeout=0 must be above 0"):
        MPIComm(timeout=0)


def test_mpi_is_not_started_by_importing():
    """`moespec.parallel` loads mpi4py, which starts MPI, when a communicator is made, not before."""
    done = subprocess.run([sys.executable, "-c", "import sys, moespec.parallel; print('mpi4py' in sys.modules)"], capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.strip() == "False"
