"""YAML files of users.

Configurations and recipes, read strictly, with the line of whatever is wrong.

Beyond PyYAML's safe loader: a key that stands twice is an error, a key must be text, numbers must
be finite, and only UTF-8 (or UTF-16 and UTF-32 with a byte order mark, as YAML 1.2 has it) is read.
"""

from __future__ import annotations

import codecs
import json
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
# Aliases that a file may hold. A configuration needs a few; nine levels of nine aliases stand for a
# billion values.
MOST_ALIASES = 1000
LARGEST = 2**63 - 1
# What PyYAML raises at 2026-13-01, at a number of 10,000 digits, at `!!int x`, `!!bool x`.
UNREADABLE = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
# YAML 1.1 reads these words, in any case, as true and false.
YES_AND_NO = {True: "yes, on and true", False: "no, off and false"}


def read_yaml(path: Path | str, task: bool = False) -> Any:
    """Return what a YAML file holds. A file named `.json` is read as JSON, as Snakemake does.

    Args:
        path: the file.
        task: a task file of lm-eval, where `!function` may stand and keys need not be text.

    Raises:
        InputError: no such file, not text, not YAML, a key twice, a key that is no text, or a
            number that is not finite; the message names the file, the line and the column.
    """
    path = Path(path)
    parse = parse_json if path.suffix == ".json" else parse_yaml
    return parse(read_text(path), str(path), task)


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raise `InputError` where there is no such file, or none in UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a YAML file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in the name
        raise InputError(f"{str(path)!r}: no such file") from None
    return _decoded(content, str(path))


def read_mapping(path: Path | str, task: bool = False) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raise `InputError` for a file without one, as `read_yaml` does for all else.
    """
    value = read_yaml(path, task)
    if not isinstance(value, dict):
        kind = (
            "nothing"
            if value is None
            else f"a {'list' if isinstance(value, list) else type(value).__name__}"
        )
        raise InputError(f"{path}: found {kind}, expected a mapping of keys to values")
    return value


def parse_yaml(text: str, name: str, task: bool = False) -> Any:
    """Return what a YAML text holds; `name` stands for the text in messages.

    Raises as `read_yaml` does.
    """
    try:
        return yaml.load(text, _TaskLoader if task else _Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{name}{_location(error.problem_mark)}: {_words(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{name}, line {line}: the character U+{error.character:04X}, which YAML does not allow"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise InputError(f"{name}: values within values, too deep to be read") from None


def parse_json(text: str, name: str, task: bool = False) -> Any:
    """Return what a JSON text holds; `task` matters to YAML alone. Raises as `read_yaml` does."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = max(keys, key=keys.count)
            raise InputError(f"{name}: the key '{twice}' stands there twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
        check_finite(value, f"{name}: ")
    except json.JSONDecodeError as error:
        location = f"{name}, line {error.lineno}, column {error.colno}"
        raise InputError(f"{location}: not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{name}: values within values, too deep to be read") from None
    except ValueError as error:  # a number of 10,000 digits
        reason = str(error).splitlines()[0]
        raise InputError(f"{name}: a value that cannot be read ({reason})") from None
    return value


def check_finite(value: Any, where: str) -> None:
    """Raise `InputError` at the first number within a value of JSON that is not finite, or is a
    whole number beyond 64 bits.

    Args:
        value: mappings, lists, texts, numbers.
        where: the place of `value`, for the message.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: found {value}, expected a finite number")
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        shown = (
            f"{str(value)[:20]}..." if abs(value) < 10**4000 else "a number of thousands of digits"
        )
        raise InputError(f"{where}: found {shown}, expected a number within 64 bits")
    if isinstance(value, dict):
        for key, inner in value.items():
            check_finite(
                inner, f"{where}{key}" if where.endswith(": ") or not where else f"{where}.{key}"
            )
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
            f"{name}, line {line}: byte 0x{content[error.start]:02x} is no "
            f"{encoding.upper()[:6]}, expected a text file in UTF-8"
        ) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, strict about keys and numbers."""

    aliases = 0
    text_keys = True

    def __init__(self, stream: str) -> None:
        """Construct each value whole, so that a value within itself is found and not made."""
        super().__init__(stream)
        self.deep_construct = True

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; whatever cannot be read of a tag's text is an error with its place."""
        try:
            return super().construct_object(node, deep)
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if isinstance(error, ValueError) else node.tag
            problem = f"a value that cannot be read ({reason})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > MOST_ALIASES:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {MOST_ALIASES} aliases",
                    problem_mark=self.peek_event().start_mark,
                )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str if self.text_keys else Hashable):
                raise yaml.MarkedYAMLError(
                    problem=_not_text(key, key_node), problem_mark=key_node.start_mark
                )
            line = key_node.start_mark.line + 1
            if key in lines:
                problem = (
                    f"the key '{key}' stands there twice, in line {lines[key]} and in line {line}"
                )
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            lines[key] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        number = super().construct_yaml_float(node)
        if not math.isfinite(number):
            raise yaml.MarkedYAMLError(
                problem=f"found {node.value}, expected a finite number",
                problem_mark=node.start_mark,
            )
        return number


class _TaskLoader(_Loader):
    """The same for the task files of lm-eval, whose functions are read as text."""

    text_keys = False

    def construct_function(self, node: yaml.ScalarNode) -> str:
        """Return the name of a function."""
        return str(self.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_TaskLoader.add_constructor("!function", _TaskLoader.construct_function)


def _not_text(key: Any, node: yaml.Node) -> str:
    if isinstance(key, bool):
        return (
            f"the key {node.value}: YAML reads {YES_AND_NO[key]} as {str(key).lower()}; "
            f"write it in quotes, '{node.value}'"
        )
    if not isinstance(node, yaml.ScalarNode):
        return "a key is a list or a mapping, expected text"
    shown = "null" if key is None else repr(key)
    hint = f"; write it in quotes, '{node.value}'" if node.value else ""
    return f"the key {shown} is no text{hint}"


def _location(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _words(error: yaml.MarkedYAMLError) -> str:
    if type(error) is yaml.MarkedYAMLError:
        return str(error.problem)
    if "single document" in str(error.context):
        return "a second document begins, expected one"
    if "recursive" in str(error.problem):
        return "a value that holds itself"
    return "not YAML: " + " ".join(", ".join(filter(None, [error.context, error.problem])).split())
