"""The public names, a page a module."""

from __future__ import annotations

import inspect
import re

from public import modules, names
from rst import heading, literal, summary, table, toctree

import moespec
from moespec.registry import OPS

PLACES = {f"moespec.{name}" for name in moespec.__all__}     # modules whose names other modules may hand on


def pages(mocked) -> dict[str, str]:
    """Path -> text, of every public module and of their index."""
    found = modules(mocked)
    rows = [(f":doc:`{m.__name__}`", summary(m)) for m in found]
    index = [*heading("Public names"), "Everything that may be imported. Names with an underscore, and modules that are not listed, may change",
             "without notice.", ""]
    index += table(("module", "what is in it"), rows, "30 70") + toctree([m.__name__ for m in found])
    return {"api/index.rst": "\n".join(index)} | {f"api/{m.__name__}.rst": "\n".join(_module(m)) for m in found}


def _module(module):
    lines = [*heading(module.__name__), f".. py:module:: {module.__name__}", "", *_text(module)]
    if module is moespec:
        return lines + _elsewhere(module)
    known = {f"{op.name}{end}" for op in OPS.values() for end in ("", "_backward")}
    specified = [n for n in names(module) if f"{module.__name__}.{n}".removeprefix("moespec.") in known]
    if specified:
        lines += [f"Operations, each on a page of its own: {', '.join(_operation(module, n) for n in specified if not n.endswith('_backward'))}.",
                  "The backward of each is called like it, with ``_backward`` behind.", ""]
    for name in names(module):
        lines += [] if name in specified else _directive(module, name)
    return lines


def _text(module):
    """The module's docstring; columns stay columns."""
    lines = []
    for paragraph in (inspect.getdoc(module) or "").split("\n\n"):
        columns = re.search(r"^\S.*[^\s.?!:] {2,}\S", paragraph, re.MULTILINE)
        lines += [".. code-block:: text", "", *(f"   {line}" for line in paragraph.splitlines())] if columns else paragraph.splitlines()
        lines.append("")
    return lines


def _operation(module, name):
    return f":doc:`{name} </spec/{module.__name__.removeprefix('moespec.')}.{name}>`"


def _directive(module, name):
    thing = getattr(module, name)
    if getattr(thing, "__module__", "") in PLACES - {module.__name__}:
        return [f"``{name}`` is :py:obj:`{thing.__module__}.{name}`.", ""]
    if inspect.isclass(thing):
        return [f".. autoclass:: {module.__name__}.{name}", *(["   :members:"] if _methods(thing) else []), ""]
    if callable(thing) and hasattr(thing, "__name__"):
        return [f".. autofunction:: {module.__name__}.{name}", ""]
    return [f".. py:data:: {name}", "", f"   {_value(thing)}", ""]


def _value(thing):
    """A constant in a line, the same at every build."""
    if not hasattr(thing, "__len__"):
        return f"A {type(thing).__name__}." if " at 0x" in repr(thing) else literal(repr(thing))
    if len(repr(thing)) < 150 and not isinstance(thing, frozenset):
        return literal(repr(thing))
    first = sorted(getattr(x, "__name__", getattr(x, "name", x)) for x in thing)[:4]
    return f"A {type(thing).__name__} of {len(thing)}: {', '.join(map(literal, first))}, ..."


def _methods(thing):
    """Whether a class has methods that are documented: NamedTuples and plain records have none."""
    return any(inspect.isroutine(x) or isinstance(x, property) for n, x in vars(thing).items()
               if not n.startswith("_") and inspect.getdoc(x) and not hasattr(tuple, n))


def _elsewhere(module):
    rows = [(literal(n), f":py:obj:`{_home(getattr(module, n), n)}`", summary(getattr(module, n)) if callable(getattr(module, n)) else "")
            for n in names(module)]
    return table(("name", "is", "what it does"), rows, "20 35 45")


def _home(thing, name):
    where = next((m for m in ("registry", "backend", "layer") if getattr(getattr(moespec, m), name, None) is thing), "")
    return f"moespec.{where}.{name}"
