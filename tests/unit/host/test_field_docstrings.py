"""Each field of the public configuration and recipe classes has a docstring line below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("recipe", "config", "workflow", "plan", "export", "posttraining", "cluster")
# A sentence or two that fit one line.
MOST_WORDS = 20


def dataclasses_of(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the public dataclasses of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if any(ast.unparse(item).startswith("dataclass") for item in node.decorator_list):
                yield node


def undocumented(node: ast.ClassDef) -> list[str]:
    """Return the fields without a docstring of one line directly below, and why."""
    faults = []
    for field, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if not isinstance(field, ast.AnnAssign):
            continue
        name = f"{node.name}.{ast.unparse(field.target)}"
        text = None
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = below.value.value
        if not isinstance(text, str) or not text.strip():
            faults.append(f"{name}: no docstring")
        elif "\n" in text or not text.endswith(".") or len(text.split()) > MOST_WORDS:
            faults.append(f"{name}: not one short line that ends with a full stop")
    return faults


MODULES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / "zagreus" / package).rglob("*.py"))
    if list(dataclasses_of(ast.parse(path.read_text())))
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_field_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [fault for node in dataclasses_of(tree) for fault in undocumented(node)] == []


def test_every_package_has_such_classes() -> None:
    assert {path.relative_to(ROOT / "zagreus").parts[0] for path in MODULES} == set(PACKAGES)


def test_a_field_without_a_docstring_is_found() -> None:
    text = '''
@dataclass(frozen=True)
class Example:
    """An example."""

    first: int
    """Tokens of one window."""
    second: int = 0
    third: int = 1
    """Two
    lines."""
'''
    (node,) = dataclasses_of(ast.parse(text))
    assert undocumented(node) == [
        "Example.second: no docstring",
        "Example.third: not one short line that ends with a full stop",
    ]
