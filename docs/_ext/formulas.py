"""A formula that is a list of equations goes one a line where it is long: a page is as wide as a hand on a telephone."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

TOKENS = re.compile(r"\\begin\b|\\end\b|\\q?quad\b|\\\\|\\[a-zA-Z]+|\\.|[{}]")
LONG = 44                        # signs, about what fits a page beside its margins


class Formulas(SphinxTransform):
    """Break displayed formulas."""

    default_priority = 500

    def apply(self, **kwargs):
        for node in self.document.findall(nodes.math_block):
            text = node.astext()
            parts = equations(text)
            if len(parts) > 1 and signs(text) > LONG:
                broken = r" \\ ".join(f"& {part}" for part in parts)
                node.replace_self(nodes.math_block(broken, broken, **node.attributes))


def equations(text: str) -> list[str]:
    """The parts between the wide spaces that no bracket or environment holds; all of it in one where lines were broken by hand."""
    parts, depth, start = [], 0, 0
    for token in TOKENS.finditer(text):
        if token[0] in ("{", r"\begin"):
            depth += 1
        elif token[0] in ("}", r"\end"):
            depth -= 1
        elif token[0] == r"\\" and depth == 0:
            return [text]
        elif token[0] in (r"\quad", r"\qquad") and depth == 0:
            parts.append(text[start:token.start()].strip())
            start = token.end()
    return [*parts, text[start:].strip()]


def signs(text: str) -> int:
    """About how many signs a formula shows."""
    return len(re.sub(r"\\[a-zA-Z]+|[{}_^\s\\]", "", text)) + len(re.findall(r"\\[a-zA-Z]+", text)) // 2
