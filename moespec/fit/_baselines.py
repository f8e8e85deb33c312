"""The two ends between which mixtures lie: very local, and fully global."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from moespec.fit._data import above_zero, admit, design, reals, variance, whole
from moespec.fit._least_squares import ridge_fit


@dataclass(frozen=True)
class Neighbours:
    """Stored cases."""

    tree: cKDTree           # of the inputs, each feature in units of its standard deviation
    scale: np.ndarray       # D
    targets: np.ndarray     # T C
    k: int

    def predict(self, x):
        """The mean of the k nearest cases [T, C]."""
        _, nearest = self.tree.query(reals("nearest_neighbours", "x", x, len(self.scale)) / self.scale, k=range(1, self.k + 1))
        return self.targets[nearest].mean(1)


def nearest_neighbours(x, y, k=5):
    """Very local: keep every case, answer with the mean of the k nearest (ties go to whichever the tree finds first)."""
    x, y = admit("nearest_neighbours", x, y)
    whole("nearest_neighbours", k=(k, 1))
    if k > len(x):
        raise ValueError(f"nearest_neighbours: k={k} must be in 1 .. {len(x)} (x has shape {x.shape})")
    scale = np.sqrt(variance(x))
    return Neighbours(cKDTree(x / scale), scale, y, k)


@dataclass(frozen=True)
class Polynomial:
    """One map for all of the domain."""

    w: np.ndarray           # P C
    degree: int
    columns: int            # of x

    def predict(self, x):
        """[T, C]."""
        return design(reals("polynomial", "x", x, self.columns), self.degree) @ self.w


def polynomial(x, y, degree, *, ridge=1e-6):
    """Fully global: one polynomial, every coefficient of which depends on all data."""
    x, y = admit("polynomial", x, y)
    whole("polynomial", degree=(degree, 0))
    above_zero("polynomial", ridge=ridge)
    return Polynomial(ridge_fit(design(x, degree), y, np.ones(len(x)), ridge), degree, x.shape[1])
