"""Pages that lead to others: guides, evidence, gallery, project.  A page of docs/ that no list names is taken up as a guide."""

from __future__ import annotations

import re
from pathlib import Path

from rst import heading, toctree

LISTS = {
    "evidence": ("standing", "bugs", "third-party", "reproductions", "performance", "benchmarks", "gpu-kernels"),
    "project": ("design", "site/contributing", "site/changelog"),
}
ELSEWHERE = ("index", "start", "models", "decisions", "numerics")
FIRST = ("conformance", "backends", "interop", "traces", "cost", "parallel", "cluster", "classical")
TITLES = {"guides": "Guides", "evidence": "Evidence", "project": "Project"}
ABOUT = {
    "guides": "How to do it: judge a kernel, choose a backend, load a checkpoint, compare two runs, count what a layer costs.",
    "evidence": "What was checked, where, and what it found; how fast it is.",
    "project": "How the project is made, and how to take part.",
}

PARTS = re.compile(r"^(#+) (.+)$|!\[([^]]*)\]\(([^)]+\.(?:png|svg))\)", re.MULTILINE)          # a heading, or a picture


def pages(docs: Path) -> dict[str, str]:
    """Path -> text."""
    listed = {name for names in LISTS.values() for name in names} | set(ELSEWHERE)
    guides = sorted((p.stem for p in docs.glob("*.md") if p.stem not in listed), key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
    found = {f"site/{hub}.rst": _hub(hub, names, docs) for hub, names in {"guides": guides, **LISTS}.items()}
    found["site/gallery.rst"] = _gallery(docs)
    return found | {f"site/{name}.md": _root(name) for name in ("contributing", "changelog")}


def _root(name):
    """A page of the repository's root."""
    return f"```{{include}} ../../{name.upper()}.md\n:relative-docs: docs/\n:relative-images:\n```\n"


def _hub(name, pages, docs):
    cards = [line for page in pages for line in _card(f"/{page}", *_head(docs, page))]
    lines = [*heading(TITLES[name]), ABOUT[name], "", ".. grid:: 1 2 2 3", "   :gutter: 3", "", *cards, ""]
    return "\n".join(lines + toctree([f"/{page}" for page in pages]))


def _head(docs, page):
    """(title, first sentence) of a page."""
    path = docs.parent / f"{page.removeprefix('site/').upper()}.md" if page.startswith("site/") else docs / f"{page}.md"
    title, _, rest = path.read_text().partition("\n")
    paragraph = re.split(r"\n\s*\n", rest.strip(), maxsplit=1)[0]
    plain = re.sub(r" \(\[[^]]+\]\([^)]*\)\)", "", " ".join(paragraph.split()))                # a link in brackets is no part of the sentence
    plain = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", plain).replace("*", "").replace("`", "")
    return title.lstrip("# "), re.split(r"(?<=[.:?]) ", plain, maxsplit=1)[0].rstrip(":")


def _card(page, title, text, image=None):
    picture = [f"      :img-top: {image}"] if image else []
    return [f"   .. grid-item-card:: {title}", f"      :link: {page}", "      :link-type: doc", *picture, "", f"      {text}", ""]


def _gallery(docs):
    """Every picture of a page under the heading that it stands below; all examples are in the contents."""
    cards = []
    for path in sorted([*docs.glob("examples/*.md"), *docs.glob("*.md")]):
        page = str(path.relative_to(docs).with_suffix(""))
        title_of_page, _ = _head(docs, page)
        heading_now = title_of_page
        for mark, title, alt, picture in PARTS.findall(path.read_text()):
            heading_now = title if mark else heading_now
            if picture:
                where = "/" + str((path.parent / picture).resolve().relative_to(docs.resolve()))
                cards += _card(f"/{page}", heading_now, f"{alt[:1].upper()}{alt[1:]}. *{title_of_page}*", where)
    lines = [*heading("Gallery"), "Experiments and measurements; each plot is made by a script, and leads to its page.", "",
             ".. grid:: 1 1 2 3", "   :gutter: 3", "   :class-container: gallery", "", *cards, ""]
    return "\n".join(lines + toctree([f"/examples/{path.stem}" for path in sorted(docs.glob("examples/*.md"))]))
