"""Published layers as `LayerSpec` instances.

The layers of the founding papers are functions (`shazeer2017`, `switch2021`, ...); public model families are a table: `FAMILIES`, read
through `spec` by a configuration.
"""

from moespec.models._config import Missing
from moespec.models._families import FAMILIES
from moespec.models._family import Family
from moespec.models._papers import (
    gshard2020,
    jacobs1991,
    mixtral,
    shazeer2017,
    shazeer2017_balanced,
    shazeer2017_hierarchical,
    switch2021,
)

PAPERS = {f.__name__: f for f in (jacobs1991, shazeer2017, shazeer2017_hierarchical, shazeer2017_balanced, gshard2020, switch2021, mixtral)}

__all__ = ["FAMILIES", "PAPERS", "Family", "Missing", *PAPERS]
