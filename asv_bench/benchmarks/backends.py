"""The backends that can run here, and what a benchmark does with one."""

from moespec.backend import known, load, status


def real():
    """Names of the backends that run on this machine; emulated ones tell nothing about time."""
    found = [name for name in sorted({"numpy", *known()}) if status(name)[0]]
    found = [name for name in found if getattr(load(name), "execution", "real") == "real"]
    for name in found:
        load(name).ops()                   # imported here, before asv forks a process for every benchmark
    return found


BACKENDS = real()
HOST = [name for name in BACKENDS if load(name).host]


def placed(backend, inputs):
    """Arrays on the backend; None stays None."""
    return tuple(None if array is None else backend.from_numpy(array) for array in inputs)
