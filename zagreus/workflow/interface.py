"""Types of what Snakemake hands to the functions of a rule, and of what they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

# A checked configuration (`zagreus.config.check.check_config`).
Config = Mapping[str, Any]
# Input files of a rule: one path, several, or none.
Files = str | list[str]


class Wildcards(Protocol):
    """The wildcards of a job, by name."""

    def __getattr__(self, name: str, /) -> str: ...


class Input(Protocol):
    """The input files of a job, by the names in its rule; an empty value where there is none."""

    def __getattr__(self, name: str, /) -> Any: ...


class Resource(Protocol):
    """A resource that depends on the job and on its attempt (1, 2, ...)."""

    def __call__(self, wildcards: Wildcards, attempt: int) -> int: ...
