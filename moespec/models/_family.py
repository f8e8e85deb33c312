"""One public family: what its layer is, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moespec.layer import LayerSpec
from moespec.models._config import Make, When, declare


@dataclass(frozen=True)
class Family:
    """One entry of the table.

    Attributes
    ----------
    name : str
        The `model_type` of its configuration.
    row : str
        The rows of docs/models.md that it combines: router, experts.
    parts : Make or When
        The declaration, with references into the configuration.
    sizes : mapping
        The configuration keys of a published size (or of the library's default one), `hidden_size` included.
    note : str
        What an implementer has to know; what was found upstream.
    """

    name: str
    row: str
    parts: Make | When
    sizes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def spec(self, config: Mapping[str, Any] | None = None, layer: int = 0) -> LayerSpec:
        """The declaration under `config`; of the published size without one."""
        return replace(declare(self.parts, self.sizes if config is None else config, layer), family=self.name)

    @property
    def d_model(self) -> int:
        """The width of the published size."""
        return self.sizes["hidden_size"]
