"""Declarations as plain dicts and back: nested dataclasses by their annotations, unions of them by a `type` entry."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints


def to_plain(value):
    """Dicts, lists, numbers and strings of a declaration; a member of a union says its type."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        return {f.name: _tagged(getattr(value, f.name), hints[f.name]) for f in fields(value)}
    return [to_plain(v) for v in value] if isinstance(value, tuple) else value


def _tagged(value, hint):
    plain = to_plain(value)
    return {"type": type(value).__name__, **plain} if len(_classes(hint)) > 1 else plain


def from_plain(cls, plain):
    """The inverse: an unknown field is a TypeError that names it."""
    hints = get_type_hints(cls)
    return cls(**{name: _made(value, hints.get(name)) for name, value in dict(plain).items()})


def _made(value, hint):
    if isinstance(value, dict) and (classes := _classes(hint)):
        kind = value.get("type", classes[0].__name__)
        named = {c.__name__: c for c in classes}
        if kind not in named:
            raise ValueError(f"type={kind!r} is not one of {', '.join(map(repr, named))}")
        return from_plain(named[kind], {k: v for k, v in value.items() if len(classes) == 1 or k != "type"})
    if isinstance(value, list | tuple):
        inner = get_args(hint)[0] if get_origin(hint) is tuple else None
        return tuple(_made(v, inner) for v in value)
    return value


def _classes(hint):
    """The dataclasses among the members of an annotation."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [m for m in members if m is not NoneType and is_dataclass(m)]
