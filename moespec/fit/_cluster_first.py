"""The mixture of the textbooks: partition the domain by clustering, train an expert in each cluster, recombine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2, vq

from moespec import gates
from moespec.fit._data import above_zero, admit, design, reals, variance, whole
from moespec.fit._experts import linear
from moespec.fit._least_squares import ridge_fit

TRIES = 10


@dataclass(frozen=True)
class ClusterFirst:
    """Experts of the clusters, and a Gaussian of the inputs of each."""

    centres: np.ndarray         # E D
    scale: np.ndarray           # D   what a feature is divided by before it is clustered
    log_precisions: np.ndarray  # E D
    log_priors: np.ndarray      # E
    w: np.ndarray               # E P C
    degree: int
    spread: float

    def assign(self, x):
        """[T]: the nearest centre."""
        return vq(self._admit(x) / self.scale, self.centres / self.scale)[0]

    def weights(self, x):
        """[T, E]: the smooth recombination, prior times density of the cluster's inputs, `spread` times as wide as they are."""
        logits, _ = gates.gaussian(self._admit(x), self.centres, self.log_precisions - 2 * np.log(self.spread), self.log_priors)
        return gates.softmax(logits)[0]

    def predict(self, x, *, hard=False):
        """[T, C]: the experts weighted smoothly, or that of the nearest centre alone (which jumps at the borders)."""
        outputs, _ = linear(self._admit(x), self.w, self.degree)
        weights = np.eye(len(self.w))[self.assign(x)] if hard else self.weights(x)
        return (weights[:, :, None] * outputs).sum(1)

    def _admit(self, x):
        return reals("cluster_first", "x", x, len(self.scale))


def cluster_first(x, y, n, *, degree=1, ridge=1e-3, floor=1e-3, spread=1.0, rng=None):
    """Partition the inputs by k-means, fit a polynomial in each cluster by least squares, recombine hard or smoothly.

    The experts never see which targets they explain well: a cluster is where inputs are alike, not where one map holds.

    Parameters
    ----------
    x : (T, D) real
    y : (T, C) real
    n : int
        Clusters; at most as many as x has different rows.
    degree : int
        Of the polynomials.
    ridge, floor : float
        Above 0: of the least squares, and the least variance of a cluster's inputs as a share of that of x.
    spread : float
        Above 0: how much wider the smooth weights are than the clusters; towards 0 they become hard.
    rng : seed or generator
        Of k-means++.

    Returns
    -------
    ClusterFirst

    Raises
    ------
    ValueError
        Values that are not finite or beyond 1e100, more clusters than different rows, a cluster that stays empty.
    """
    x, y = admit("cluster_first", x, y)
    whole("cluster_first", n=(n, 1), degree=(degree, 0))
    above_zero("cluster_first", ridge=ridge, floor=floor, spread=spread)
    different = len(np.unique(x, axis=0))
    if n > different:
        raise ValueError(f"cluster_first: n={n} exceeds the {different} different rows of x (shape {x.shape})")
    scale = np.sqrt(variance(x))
    own = _clusters(x / scale, n, np.random.default_rng(rng))
    columns, least = design(x, degree), floor * variance(x)
    centres = np.stack([x[own == i].mean(0) for i in range(n)])
    precisions = np.stack([1 / (x[own == i].var(0) + least) for i in range(n)])
    w = np.stack([ridge_fit(columns[own == i], y[own == i], np.ones((own == i).sum()), ridge) for i in range(n)])
    return ClusterFirst(centres, scale, np.log(precisions), np.log(np.bincount(own) / len(x)), w, degree, spread)


def _clusters(x, n, rng):
    """[T]: the cluster of every row, none empty."""
    for _ in range(TRIES):
        try:
            return kmeans2(x, n, minit="++", missing="raise", rng=rng)[1]
        except ClusterError:
            continue
    raise ValueError(f"cluster_first: a cluster of n={n} stayed empty in {TRIES} tries (x has shape {x.shape})")
