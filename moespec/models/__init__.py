"""Published layers as `LayerSpec` instances.

The layers of the founding papers are functions (`shazeer2017`, `switch2021`, ...); public model families are a table: `FAMILIES`, read
through `spec` by a configuration.
"""

from moespec.models._config import Unreadable
from moespec.models._families import FAMILIES
from moespec.models._family import Family
from moespec.models._papers import (
    base2021,
    deepseekmoe2024,
    expert_choice2022,
    gshard2020,
    hash2021,
    jacobs1991,
    mixtral,
    mod2024,
    peer2024,
    remoe2024,
    sbase2022,
    shazeer2017,
    shazeer2017_balanced,
    shazeer2017_hierarchical,
    soft_moe2023,
    switch2021,
    top_p2024,
    vmoe2021,
)
from moespec.models._words import choices, declared, words

PAPERS = {f.__name__: f for f in (
    jacobs1991, shazeer2017, shazeer2017_hierarchical, shazeer2017_balanced, gshard2020, switch2021, base2021, hash2021, vmoe2021,
    expert_choice2022, sbase2022, soft_moe2023, deepseekmoe2024, mod2024, peer2024, top_p2024, remoe2024)}

__all__ = ["FAMILIES", "PAPERS", "Family", "Unreadable", "choices", "declared", "words", "mixtral", *PAPERS]
