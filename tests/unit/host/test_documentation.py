"""The documents say what the code does.

`python tests/unit/host/test_documentation.py` writes docs/config.md anew from the schema.
"""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema2md
import pytest
import yaml

ROOT = Path(__file__).parents[3]


REFERENCE = ROOT / "docs" / "config.md"


def _reference() -> str:
    return "".join(
        jsonschema2md.Parser().parse_schema(
            yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
        )
    )


def test_the_reference_of_the_configuration_is_the_schema() -> None:
    assert REFERENCE.read_text() == _reference()


@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_rule_with_a_script_has_the_name_of_the_script() -> None:
    rules = {
        name
        for path in (ROOT / "rules").glob("*.smk")
        for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)
    }
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    called = {
        name
        for path in (ROOT / "rules").glob("*.smk")
        for name in re.findall(r"scripts/(\w+)\.py", path.read_text())
    }
    assert called <= rules and called <= scripts


if __name__ == "__main__":
    REFERENCE.write_text(_reference())
