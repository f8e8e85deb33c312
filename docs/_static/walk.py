"""Draws a token's walk through a layer, for light and for dark pages: `python docs/_static/walk.py`."""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
LIGHT = {"line": "#57606a", "text": "#1f2328", "soft": "#57606a", "box": "#f6f8fa", "edge": "#afb8c1", "forward": "#0b5cad", "backward": "#a33b00",
         "bug": "#8a1f2b", "bugbox": "#fdeeee", "bugedge": "#e3a3a8"}
DARK = {"line": "#9198a1", "text": "#f0f6fc", "soft": "#a9b3bd", "box": "#1b222b", "edge": "#4a535e", "forward": "#6cb6ff", "backward": "#ffab70",
        "bug": "#ffb3b8", "bugbox": "#3a1f24", "bugedge": "#8d4a52"}
# (name, what it does, what went wrong there in real libraries: docs/bugs.md)
STEPS = (
    ("router", "x W", ("low-precision", "logits")),
    ("top-k", "score, select", ("ties, NaN,", "negative bias")),
    ("weigh", "normalise", ("0 / 0,", "scaled twice")),
    ("drop", "capacity", ("formula", "without E")),
    ("plan", "permute", ("-1 as an", "address")),
    ("experts", "grouped matmul", ("empty expert,", "unwritten rows")),
    ("combine", "weighted sum", ("bfloat16 sums,", "no fixed order")),
)
WIDTH, LEFT, STEP, BOX = 1020, 62, 130, 104


def text(x, y, words, colour, size=14, weight=400, anchor="middle"):
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x, y, width, height, fill, edge):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{edge}"/>'


def arrow(x1, x2, y, colour, dashes=""):
    """A horizontal arrow, either way."""
    head = 7 if x2 > x1 else -7
    return (f'<path d="M{x1} {y} H{x2 - head}" stroke="{colour}" stroke-width="2" fill="none"{dashes}/>'
            f'<path d="M{x2} {y} l{-head} -5 v10 z" fill="{colour}"/>')


def walk(c):
    """The picture in one palette."""
    parts = []
    for i, (name, what, wrong) in enumerate(STEPS):
        x = LEFT + i * STEP
        middle = x + BOX / 2
        parts += [box(x, 40, BOX, 62, c["box"], c["edge"]), text(middle, 66, name, c["text"], 16, 600),
                  text(middle, 87, what, c["soft"], 12.5), f'<path d="M{middle} 128 V140" stroke="{c["bugedge"]}" stroke-width="1.5"/>',
                  box(x, 140, BOX, 48, c["bugbox"], c["bugedge"]),
                  *(text(middle, 160 + 17 * n, line, c["bug"], 12.5) for n, line in enumerate(wrong))]
        parts.append(arrow(x + BOX, x + STEP, 62, c["forward"]) if i < len(STEPS) - 1 else "")
        parts.append(arrow(x + STEP, x + BOX, 80, c["backward"]) if i < len(STEPS) - 1 else "")
    last = LEFT + (len(STEPS) - 1) * STEP + BOX
    parts += [arrow(30, LEFT, 62, c["forward"]), arrow(LEFT, 30, 80, c["backward"]), arrow(last, last + 32, 62, c["forward"]),
              arrow(last + 32, last, 80, c["backward"]),
              text(16, 67, "x", c["forward"], 17, 600), text(15, 87, "dx", c["backward"], 15, 600),
              text(last + 44, 67, "y", c["forward"], 17, 600), text(last + 46, 87, "dy", c["backward"], 15, 600),
              text(LEFT, 22, "forward: every step is one operation, written once in NumPy", c["forward"], 13.5, 500, "start"),
              text(last, 22, "backward: by hand, step by step", c["backward"], 13.5, 500, "end"),
              text(WIDTH / 2, 122, "where real libraries went wrong", c["bug"], 13, 500)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 200" role="img" '
            f'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
            f"<title>A token's walk through a Mixture-of-Experts layer</title>{''.join(parts)}</svg>\n")


if __name__ == "__main__":
    for name, colours in (("light", LIGHT), ("dark", DARK)):
        (HERE / f"walk-{name}.svg").write_text(walk(colours))
