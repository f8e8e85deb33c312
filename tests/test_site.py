"""The built site: every public name is there, every link leads somewhere, nothing is fetched from elsewhere."""

import ast
import re
import zlib
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import moespec
from moespec.models import FAMILIES, PAPERS
from moespec.registry import OPS

SITE = Path(__file__).parent.parent / "docs" / "_build"
BUILD = "the site is not built, or older than the code: pip install '.[docs]' && sphinx-build -W docs docs/_build"


def _current():
    """Whether the site was built from the code as it is."""
    built = SITE / "objects.inv"
    sources = Path(__file__).parent.parent.glob("moespec/**/*.py")
    return built.exists() and built.stat().st_mtime > max(p.stat().st_mtime for p in sources)


pytestmark = pytest.mark.skipif(not _current(), reason=BUILD)


class Page(HTMLParser):
    """The links, the anchors and what a page loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[k] for k in ("id", "name") if attrs.get(k)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("img", "script", "link", "iframe"):
            self.loaded += [attrs[k] for k in ("src", "href") if attrs.get(k)]


@cache
def pages():
    return {p: Page(p.read_text()) for p in SITE.rglob("*.html") if "_static" not in p.parts}


def documented():
    """Every object of the inventory."""
    text = zlib.decompress((SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    return {line.split()[0] for line in text.splitlines() if " py:" in line}


def declared():
    """(module, name) of every `__all__` that stands in a source file, also of modules that cannot be imported here."""
    package = Path(moespec.__file__).parent
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) == 1 or parts[1] == "cli" or any(p.startswith("_") for p in parts):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                yield from ((".".join(parts), e.value) for e in node.value.elts if isinstance(e, ast.Constant))


def test_every_public_name_is_documented():
    known = documented()
    wanted = {f"{module}.{name}" for module, name in declared()}
    wanted |= {f"moespec.models.{name}" for name in PAPERS} | {f"moespec.{name}" for name in OPS}
    wanted |= {f"moespec.{name}_backward" for name, op in OPS.items() if op.backward is not None and op.steps is None}
    assert len(wanted) > 250
    assert sorted(name for name in wanted - known if _defined(name) not in known) == []


def _defined(name):
    """Where a name that one module hands on from another is defined."""
    module, _, short = name.rpartition(".")
    return f"{getattr(import_module(module), short).__module__}.{short}"


def test_every_operation_has_its_page_with_its_requirements():
    for name, op in OPS.items():
        text = (SITE / "spec" / f"{name}.html").read_text()
        assert all(r.id in text for r in op.requirements), name
        assert "Forward" in text


def test_every_model_is_in_the_zoo():
    anchors = pages()[SITE / "site" / "zoo.html"].anchors
    assert {f"zoo-{name}".lower().replace("_", "-").replace(".", "-") for name in (*FAMILIES, *PAPERS)} - anchors == set()


def test_links_and_anchors_lead_somewhere():
    """Links within the site.  Those that leave it are not followed: there is no network in tests."""
    wrong = []
    for path, page in pages().items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (parts.fragment and target in pages() and unquote(parts.fragment) not in pages()[target].anchors):
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


def test_nothing_is_fetched_from_elsewhere():
    """Pages are whole without a network: mathematics, styles, scripts and pictures are their own."""
    loaded = {link for page in pages().values() for link in page.loaded if urlsplit(link).netloc}
    assert loaded == set()
    used = {link for page in pages().values() for link in page.loaded if "mathjax" in link}
    assert used
    assert not re.search(r"https?://[^\"' )]*cdn", (SITE / "spec" / "gates.topk_softmax.html").read_text())
