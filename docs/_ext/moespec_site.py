"""Writes the pages that follow from the code, before Sphinx reads: spec/, api/, site/ (none of them is kept)."""

from __future__ import annotations

import json
from pathlib import Path

import evidence
import hubs
import operations
import reference
import zoo
from crosslinks import Crosslinks
from formulas import Formulas

FOLDERS = ("spec", "api", "site")


def write(app) -> None:
    """Every generated page; one that did not change is left alone, so that it is not read again."""
    docs = Path(app.srcdir)
    standing, requirements = (json.loads((docs / "reports" / f"{name}.json").read_text()) for name in ("standing", "requirements"))
    pages = operations.pages(standing) | reference.pages(app.config.autodoc_mock_imports) | hubs.pages(docs)
    pages |= {"site/zoo.rst": zoo.page(), "site/requirements.rst": evidence.requirements(requirements)}
    for folder in FOLDERS:
        for old in (docs / folder).glob("*"):
            if str(old.relative_to(docs)) not in pages:
                old.unlink()
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app):
    """The extension."""
    app.connect("builder-inited", write)
    app.add_transform(Formulas)
    app.add_post_transform(Crosslinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
