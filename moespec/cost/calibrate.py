"""A link from measured exchanges: latency and bandwidth, and a second bandwidth where the data need one."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from scipy.optimize import least_squares, nnls

from moespec.cost._require import count
from moespec.cost.cluster_parts import Link

BETTER = 0.5                     # a second bandwidth is kept if it halves what is left of the error
OUTLIER = 0.1                    # logarithms further off than this count by their distance, no longer by its square


def fit_link(sizes, seconds) -> Link:
    """The link that predicts best, by relative error: half and double are equally wrong.

    .. math:: \\min \\sum_i \\rho\\left(\\log\\frac{\\alpha + \\beta s_i + \\gamma \\max(0, s_i - s_0)}{t_i}\\right),
              \\quad \\alpha, \\beta, \\gamma \\ge 0

    with :math:`\\rho` a square near 0 and a distance further away (soft L1), so that one busy moment of the machine bends nothing.
    Every measured size between the smallest and the largest, and the geometric mean of every two neighbours, is tried as the knee
    :math:`s_0`, and none.

    Parameters
    ----------
    sizes, seconds : array_like [n]
        Bytes that a rank sends (and receives) in one exchange, and what it took.  Messages are not told apart: `latency` is that of all
        messages of an exchange, `overhead` is 0.

    Raises
    ------
    ValueError
        Fewer than three sizes, or numbers that are not above 0.
    """
    sizes, seconds = _checked("fit_link", sizes, seconds)
    plain, error = _with_knee(sizes, seconds, inf)
    steps = np.unique(sizes)
    knees = np.concatenate([steps[1:-1], np.sqrt(steps[1:-2] * steps[2:-1])])
    best, least = min((_with_knee(sizes, seconds, knee) for knee in knees), key=lambda found: found[1])
    return best if least < BETTER * error else plain


def relative_errors(link: Link, sizes, seconds) -> np.ndarray:
    """[n]: predicted / measured - 1."""
    sizes, seconds = _checked("relative_errors", sizes, seconds)
    return link.seconds(sizes, np.ones(len(sizes))) / seconds - 1


def shared(link: Link, ranks: int, cores: int) -> Link:
    """The link of a node whose `cores` move the bytes of more ranks than there are cores: each rank gets its part of the bandwidth."""
    part = min(1.0, count("shared", "cores", cores, least=1) / count("shared", "ranks", ranks, least=1))
    return replace(link, bandwidth=link.bandwidth * part, beyond=None if link.beyond is None else link.beyond * part)


def _with_knee(sizes, seconds, knee):
    """The best link with this knee, and what is left of the error."""
    terms = np.stack([np.ones(len(sizes)), sizes, np.maximum(sizes - knee, 0.0)], axis=1)[:, :2 if knee == inf else 3]
    scale = seconds.min() / terms.max(0)                                            # near the numbers that are sought
    start, _ = nnls(terms * scale / seconds[:, None], np.ones(len(sizes)))
    found = least_squares(lambda p: np.log(terms @ (p * scale) / seconds), np.maximum(start, 1e-3), bounds=(1e-9, np.inf), loss="soft_l1",
                          f_scale=OUTLIER)
    latency, slope, *more = (float(p) for p in found.x * scale)
    return Link(latency, 1 / slope, knee=float(knee), beyond=1 / (slope + more[0]) if more else None), found.cost


def _checked(name, sizes, seconds):
    sizes, seconds = np.asarray(sizes, np.float64), np.asarray(seconds, np.float64)
    if sizes.ndim != 1 or sizes.shape != seconds.shape:
        raise ValueError(f"{name}: sizes has shape {sizes.shape}, seconds {seconds.shape}; wanted a time for each size")
    if not (np.isfinite(sizes).all() and np.isfinite(seconds).all() and (sizes > 0).all() and (seconds > 0).all()):
        raise ValueError(f"{name}: sizes and seconds must be finite and above 0")
    if name == "fit_link" and len(np.unique(sizes)) < 3:
        raise ValueError(f"fit_link: {len(np.unique(sizes))} different sizes do not tell latency from bandwidth (sizes has shape {sizes.shape})")
    return sizes, seconds
