"""Capacity: how many tokens an expert takes.  Libraries compute it differently; each formula has a name here."""

import math
from fractions import Fraction

# name -> formula of exact fractions; T tokens, E experts, k per token, f the capacity factor
FORMULAS = {
    "ceil": lambda T, E, k, f: math.ceil(T * k * f / E),                     # Megatron-LM
    "floor": lambda T, E, k, f: math.floor(T * k * f / E),                   # MegaBlocks
    "switch": lambda T, E, k, f: math.floor(T * f / E),                      # Switch (eq. 3), Mesh: without k
    "round": lambda T, E, k, f: round(T * f / E),                            # Flaxformer: half to even, without k
    "gshard": lambda T, E, k, f: 2 * T // E,                                 # GShard: 2 N / E whatever the factor
    "deepspeed": lambda T, E, k, f: math.ceil(Fraction(T, E) * (f * k)),     # DeepSpeed: as "ceil" in exact arithmetic
    "maxtext": lambda T, E, k, f: math.floor(max(math.ceil(Fraction(T * k, E)) * f, f)),
    "tutel": lambda T, E, k, f: k * math.floor(f * math.ceil(Fraction(T, E))),
    "share": lambda T, E, k, f: math.ceil(T * f),                            # NLLB in evaluation: a share of the tokens
}


def capacity(tokens, experts, k=1, factor=1.0, *, formula="ceil", minimum=0, multiple=1):
    r"""Capacity of every expert.

    ============  =================================================  ==========================
    formula       C                                                  used by
    ============  =================================================  ==========================
    ceil          ceil(T k f / E)                                    Megatron-LM; V-MoE
    floor         floor(T k f / E)                                   MegaBlocks
    switch        floor(T f / E)                                     Switch, Mesh TensorFlow
    round         round(T f / E), half to even                       Flaxformer
    gshard        floor(2 T / E)                                     GShard (f is not used)
    deepspeed     ceil(T / E (f k))                                  DeepSpeed
    maxtext       floor(max(ceil(T k / E) f, f))                     MaxText
    tutel         k floor(f ceil(T / E))                             Tutel
    share         ceil(T f)                                          NLLB in evaluation
    ============  =================================================  ==========================

    The factor is taken as the decimal number that it prints as, and everything is computed in exact fractions: no
    rounding of a float changes a capacity (1.1 of 10 tokens is 11, not 11.000000000000002).

    Parameters
    ----------
    tokens, experts, k : int
        T, E and the experts per token.
    factor : float
        The capacity factor f.
    formula : str
        A name of the table.
    minimum : int
        At least this much (Mesh and Flaxformer: 4).
    multiple : int
        Rounded up to a multiple of this (V-MoE: 4).

    Returns
    -------
    int
        0 is legal and drops everything; "no limit" is None, which this function never returns.

    Raises
    ------
    ValueError
        An unknown formula; a negative or non-finite argument.
    """
    if formula not in FORMULAS:
        raise ValueError(f"capacity: formula={formula!r} is not one of {', '.join(FORMULAS)}")
    for name, value, low in (("tokens", tokens, 0), ("experts", experts, 1), ("k", k, 0), ("factor", factor, 0),
                             ("minimum", minimum, 0), ("multiple", multiple, 1)):
        if not low <= value < math.inf:
            raise ValueError(f"capacity: {name}={value} must be finite and at least {low}")
    found = max(FORMULAS[formula](tokens, experts, k, Fraction(str(factor))), minimum)
    return -(-found // multiple) * multiple
