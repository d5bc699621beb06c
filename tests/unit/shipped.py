"""The configurations that the repository ships, by their path in it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = [
    "config.yaml",
    *(
        f"config/{path.name}"
        for path in sorted((ROOT / "config").glob("[a-z]*.yaml"))
        if path.name != "schema.yaml"
    ),
]
