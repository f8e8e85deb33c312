"""Declarations with references into a model's configuration: data that become a declaration once the numbers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moespec.layer import LayerSpec

# Where models of several towers keep the configuration of the one with the experts.
SECTIONS = ("ffn_config", "thinker_config", "talker_config", "llm_config", "language_config", "text_config")
REQUIRED = object()


class Unreadable(ValueError):
    """A key that a family needs and a configuration does not have, or a value that no row knows."""


@dataclass(frozen=True)
class C:
    """The first of `keys` ("a|b") that the configuration has; `then` maps the value.  A list holds one value per layer, or is `whole`."""

    keys: str
    default: Any = REQUIRED
    then: Callable[[Any], Any] = lambda value: value
    whole: bool = False

    def resolve(self, config, layer):
        for key in self.keys.split("|"):
            if config.get(key) is not None:
                return self._map(key, self._of(key, config[key], layer))
        if self.default is REQUIRED:
            raise Unreadable(f"the configuration has none of {', '.join(map(repr, self.keys.split('|')))}")
        return self.default

    def _of(self, key, value, layer):
        if self.whole or not isinstance(value, list | tuple):
            return value
        if layer >= len(value):
            raise Unreadable(f"there is no layer {layer}: {key} has {len(value)} values, one a layer")
        return value[layer]

    def _map(self, key, value):
        try:
            return self.then(value)
        except KeyError:
            raise Unreadable(f"{key}={value!r} is not a value that its declaration knows") from None


@dataclass(frozen=True)
class Times:
    """The product of references and numbers."""

    factors: tuple[Any, ...]

    def resolve(self, config, layer):
        product = 1
        for factor in self.factors:
            product *= resolve(factor, config, layer)
        return product


@dataclass(frozen=True)
class When:
    """`value` where `test` is true of the configuration, else `otherwise`."""

    test: C
    value: Any
    otherwise: Any = None

    def resolve(self, config, layer):
        return resolve(self.value if self.test.resolve(config, layer) else self.otherwise, config, layer)


@dataclass(frozen=True)
class Make:
    """A part of a declaration whose fields are values or references."""

    cls: type
    fields: Mapping[str, Any] = field(default_factory=dict)

    def but(self, **changes):
        """The same with other fields."""
        return Make(self.cls, {**self.fields, **changes})

    def resolve(self, config, layer):
        return self.cls(**{name: resolve(value, config, layer) for name, value in self.fields.items()})


def make(cls, **fields):
    """A part of a declaration."""
    return Make(cls, fields)


def resolve(value, config: Mapping[str, Any], layer: int = 0):
    """References replaced by what the configuration says; parts of a tuple that come out as None are left out."""
    if isinstance(value, C | Times | When | Make):
        return value.resolve(config, layer)
    if isinstance(value, tuple):
        return tuple(v for v in (resolve(v, config, layer) for v in value) if v is not None)
    return value


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """One level: dotted keys taken apart, the section with the experts laid over what is above it."""
    nested: dict[str, Any] = {}
    for key, value in config.items():
        at, path = nested, key.split(".")
        for name in path[:-1]:
            at = at.setdefault(name, {})
        at[path[-1]] = value
    found = dict(nested)
    for section in SECTIONS:
        if isinstance(nested.get(section), Mapping):
            found |= flat(nested[section])
    return found


def declare(parts: Make | When, config: Mapping[str, Any], layer: int = 0) -> LayerSpec:
    """The declaration of one layer."""
    if layer < 0:
        raise Unreadable(f"there is no layer {layer}: the first is 0")
    return resolve(parts, {"layer_idx": layer, **flat(config)}, layer)
