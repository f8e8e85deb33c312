"""The operations of an op as a polynomial in its dimensions: `Op.flops`, evaluated on symbols."""

from __future__ import annotations

import inspect

from moespec.op import Op

Monomial = tuple[str, ...]


class Polynomial:
    """Integer coefficients by monomial, a monomial being its letters in the order of the declaration."""

    def __init__(self, terms: dict[Monomial, int], letters: tuple[str, ...]):
        self.terms, self.letters = {m: c for m, c in terms.items() if c}, letters

    def _like(self, other) -> dict[Monomial, int]:
        return other.terms if isinstance(other, Polynomial) else {(): other}

    def __add__(self, other):
        terms = dict(self.terms)
        for m, c in self._like(other).items():
            terms[m] = terms.get(m, 0) + c
        return Polynomial(terms, self.letters)

    def __mul__(self, other):
        terms: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in self._like(other).items():
                both = tuple(sorted(m + n, key=self.letters.index))
                terms[both] = terms.get(both, 0) + c * d
        return Polynomial(terms, self.letters)

    def __pow__(self, n):
        return self if n == 1 else self * self ** (n - 1)

    __radd__, __rmul__ = __add__, __mul__

    def __str__(self):
        terms = sorted(self.terms.items(), key=lambda term: -len(term[0]))
        return " + ".join(" ".join([*([str(c)] if c != 1 or not m else []), *_powers(m)]) for m, c in terms) or "0"


def _powers(monomial):
    return [name if monomial.count(name) == 1 else f"{name}^{monomial.count(name)}" for name in dict.fromkeys(monomial)]


def formula(op: Op) -> tuple[str, str]:
    """Operations forward and backward as text: ``("6 N D F + 5 N F", "12 N D F + 15 N F")``."""
    if op.flops is None:
        return "0", "0"
    letters = tuple(n for n, p in inspect.signature(op.flops).parameters.items() if p.kind is not p.VAR_KEYWORD)
    forward, backward = op.flops(**{n: Polynomial({(n,): 1}, letters) for n in letters})
    return str(forward), str(backward)
