"""Fitting the classical mixtures: small loops over the ops' own forward and backward.

hme_em          the hierarchical mixture by EM; one level is the mixture of 1991 with precisions (Jordan and Jacobs 1994)
gaussian_em     the Gaussian gate by EM in closed form (Xu, Jordan and Hinton 1994)
gradient        the same by L-BFGS, and the blends of 1991: cooperation, specialisation, an equal average
cluster_first   clusters of the inputs, then an expert in each: the definition of the textbooks
nearest_neighbours, polynomial    the very local and the fully global end
"""

from moespec.fit._baselines import Neighbours, Polynomial, nearest_neighbours, polynomial
from moespec.fit._cluster_first import ClusterFirst, cluster_first
from moespec.fit._em import gaussian_em, hme_em
from moespec.fit._gradient import gradient
from moespec.fit._mixture import Fit

__all__ = ["ClusterFirst", "Fit", "Neighbours", "Polynomial", "cluster_first", "gaussian_em", "gradient", "hme_em", "nearest_neighbours",
           "polynomial"]
