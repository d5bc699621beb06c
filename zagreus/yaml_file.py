"""YAML files of users: configurations and recipes, read strictly, with the line of whatever is wrong.

Beyond PyYAML's safe loader: a key that stands twice is an error, a key must be text, numbers must be
finite, and only UTF-8 (or UTF-16 and UTF-32 with a byte order mark, as YAML 1.2 has it) is read.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from zagreus.errors import InputError

ENCODINGS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# Aliases that a file may hold. A configuration needs a few; nine levels of nine aliases stand for a billion values.
MOST_ALIASES = 1000
# YAML 1.1 reads these words, in any case, as true and false.
YES_AND_NO = {True: "yes, on and true", False: "no, off and false"}


def read_yaml(path: Path | str) -> Any:
    """Return what a YAML file holds.

    Raises:
        InputError: no such file, not text, not YAML, a key twice, a key that is no text, or a number that is not finite; the message names
            the file, the line and the column.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a YAML file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_yaml(_decoded(content, str(path)), str(path))


def read_mapping(path: Path | str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raise `InputError` for a file without one, as `read_yaml` does for all else."""
    value = read_yaml(path)
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {'list' if isinstance(value, list) else type(value).__name__}"
        raise InputError(f"{path}: found {found}, expected a mapping of keys to values")
    return value


def parse_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds; `name` stands for the text in messages. Raises as `read_yaml` does."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{name}{_place(error.problem_mark)}: {_words(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{name}, line {line}: the character U+{error.character:04X}, which YAML does not allow") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise InputError(f"{name}: values within values, too deep to be read") from None
    except ValueError as error:  # a date such as 2026-13-01, a number of 10,000 digits
        raise InputError(f"{name}: a value that cannot be read ({str(error).splitlines()[0]})") from None


def check_finite(value: Any, where: str) -> None:
    """Raise `InputError` at the first number within a value of JSON that is not finite.

    Args:
        value: mappings, lists, texts, numbers.
        where: the place of `value`, for the message.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: found {value}, expected a finite number")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_finite(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_finite(inner, f"{where}[{index}]")


def _decoded(content: bytes, name: str) -> str:
    encoding = next((encoding for mark, encoding in ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: byte 0x{content[error.start]:02x} is no {encoding.upper()[:6]}, expected a text file in UTF-8"
        ) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, strict about keys and numbers."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise yaml.MarkedYAMLError(problem=f"more than {MOST_ALIASES} aliases", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=_not_text(key, key_node), problem_mark=key_node.start_mark)
            line = key_node.start_mark.line + 1
            if key in lines:
                problem = f"the key '{key}' stands there twice, in line {lines[key]} and in line {line}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            lines[key] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = super().construct_yaml_float(node)
        if not math.isfinite(number):
            raise yaml.MarkedYAMLError(problem=f"found {node.value}, expected a finite number", problem_mark=node.start_mark)
        return number


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _not_text(key: Any, node: yaml.Node) -> str:
    if isinstance(key, bool):
        return f"the key {node.value}: YAML reads {YES_AND_NO[key]} as {str(key).lower()}; write it in quotes, '{node.value}'"
    found = "null" if key is None else repr(key) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
    hint = f"; write it in quotes, '{node.value}'" if isinstance(node, yaml.ScalarNode) and node.value else ""
    return f"the key {found} is no text{hint}"


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _words(error: yaml.MarkedYAMLError) -> str:
    if type(error) is yaml.MarkedYAMLError:
        return str(error.problem)
    if "single document" in str(error.context):
        return "a second document begins, expected one"
    return "not YAML: " + " ".join(", ".join(filter(None, [error.context, error.problem])).split())
