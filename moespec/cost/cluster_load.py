"""Who is chosen how often: the load of the experts, and tokens drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moespec.cost._require import count

BITS = 40                        # probabilities are integers of that many bits: sums are exact
UNIT = 1 << BITS
SAMPLE = 1 << 14                 # tokens that stand for a load without a closed form
SHARED = 16                      # tokens that share a random order
ROWS = 1 << 22                   # numbers held at a time while drawing


@dataclass(frozen=True)
class Uniform:
    """Every expert is as likely as any other."""

    def inclusion(self, experts: int, k: int) -> np.ndarray:
        """[E]: the probability that a token chooses the expert; the sum is k."""
        return capped(np.ones(experts), k)

    def draw(self, rng, tokens: int, experts: int, k: int) -> np.ndarray:
        """[T, k]: k distinct experts for each token."""
        return systematic(rng, np.broadcast_to(self.inclusion(experts, k), (tokens, experts)), k)


@dataclass(frozen=True)
class Zipf:
    """The expert of popularity rank i is chosen in proportion to i ** -s, but by no token twice.

    Which expert has which rank is drawn with `seed`; None leaves expert e with rank e + 1, the worst for contiguous blocks.
    """

    s: float
    seed: int | None = 0

    def __post_init__(self):
        if not 0 <= self.s < np.inf:
            raise ValueError(f"Zipf: s={self.s} is not a finite number of at least 0")

    def inclusion(self, experts: int, k: int) -> np.ndarray:
        """[E]: the probability that a token chooses the expert; the sum is k, none exceeds 1."""
        shares = (1.0 + np.arange(experts)) ** -self.s
        return capped(shares if self.seed is None else np.random.default_rng(self.seed).permutation(shares), k)

    def draw(self, rng, tokens: int, experts: int, k: int) -> np.ndarray:
        """[T, k]: k distinct experts for each token."""
        return systematic(rng, np.broadcast_to(self.inclusion(experts, k), (tokens, experts)), k)


@dataclass(frozen=True, eq=False)
class Trace:
    """Tokens that a run has routed: `indices` [T, k], -1 is no expert; `moespec.interop.trace` records and loads them."""

    indices: np.ndarray = field(repr=False)

    def __post_init__(self):
        ids = np.asarray(self.indices)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
            raise ValueError(f"Trace: indices is {ids.dtype.name}{list(ids.shape)}, wanted integers T k of at least one token and choice")
        object.__setattr__(self, "indices", ids.astype(np.int64))

    @property
    def sample(self) -> np.ndarray:
        """Tokens that stand for the load: all."""
        return self.indices

    def inclusion(self, experts: int, k: int) -> np.ndarray:
        """[E]: the part of the recorded tokens that chose the expert."""
        ids = self._checked(experts, k)
        return np.bincount(ids[ids >= 0], minlength=experts) / len(ids)

    def draw(self, rng, tokens: int, experts: int, k: int) -> np.ndarray:
        """[T, k]: recorded tokens, drawn with replacement."""
        return self._checked(experts, k)[rng.integers(len(self.indices), size=tokens)]

    def _checked(self, experts, k):
        ids = self.indices
        if ids.shape[1] != k or ids.min() < -1 or ids.max() >= experts:
            raise ValueError(f"Trace: ids {ids.min()} .. {ids.max()}, {ids.shape[1]} a token, do not fit k={k} of {experts} experts "
                             f"(indices has shape {ids.shape})")
        return ids


Load = Uniform | Zipf | Trace


def capped(shares, k: int) -> np.ndarray:
    """Probabilities [..., E] in proportion to `shares`, k in all, none above 1: what exceeds goes to the others."""
    shares = np.asarray(shares, np.float64)
    if not (np.isfinite(shares) & (shares >= 0)).all():
        raise ValueError(f"capped: shares are not finite numbers of at least 0 (shares has shape {shares.shape})")
    if count("capped", "k", k) > (shares > 0).sum(-1).min(initial=shares.shape[-1]):
        raise ValueError(f"capped: k={k} exceeds the experts that may be chosen (shares has shape {shares.shape})")
    full = np.zeros(shares.shape, bool)
    while True:
        rest = np.where(full, 0.0, shares)
        scale = (k - full.sum(-1, keepdims=True)) / np.maximum(rest.sum(-1, keepdims=True), np.finfo(float).tiny)
        found = np.where(full, 1.0, rest * scale)
        if not (found > 1).any():
            return found
        full |= found >= 1


def systematic(rng, inclusion, k: int) -> np.ndarray:
    """k distinct ids for every row of `inclusion` [T, E], each with exactly its probability.

    The experts of a row are laid end to end in random order, each as long as its probability; a comb with teeth at distance 1
    and a random start, one a token, picks those that it hits (Madow's systematic sampling, randomised).
    """
    tokens, experts = inclusion.shape
    step = max(1, ROWS // max(experts, 1))
    parts = [_comb(rng, inclusion[at:at + step], k) for at in range(0, tokens, step)]
    return np.concatenate(parts) if parts else np.zeros((0, k), np.int64)


def _comb(rng, inclusion, k):
    length = _whole(inclusion, k)
    tokens, experts = inclusion.shape
    order = rng.permuted(np.tile(np.arange(experts), (-(-tokens // SHARED), 1)), axis=1).repeat(SHARED, axis=0)[:tokens]
    ends = np.cumsum(np.take_along_axis(length, order, 1), 1)
    teeth = (ends + rng.integers(UNIT, size=(tokens, 1))) >> BITS                   # teeth up to the end of each expert
    hit = np.diff(teeth, axis=1, prepend=0) > 0
    return order[hit].reshape(tokens, k)


def _whole(inclusion, k):
    """The probabilities in units, with a sum of exactly k * UNIT in every row."""
    length = np.minimum(np.floor(inclusion * UNIT).astype(np.int64), UNIT)
    missing = k * UNIT - length.sum(1, keepdims=True)
    room = (length > 0) & (length < UNIT)
    return length + (room & (np.cumsum(room, 1) <= missing))
