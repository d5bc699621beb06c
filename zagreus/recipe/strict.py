"""Strict reading of YAML into dataclasses.

An unknown key, a missing one or a value of the wrong type is named by its path in the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from zagreus.errors import InputError

T = TypeVar("T")
LARGEST = 2**63 - 1  # of whole numbers, in every library that a recipe's numbers reach


def build(cls: type[T], value: Any, where: str) -> T:
    """Build a dataclass from a mapping, recursively.

    Args:
        cls: a dataclass whose fields are numbers, strings, booleans, `Literal`s, lists, other
            dataclasses, or unions of them with None. A field's metadata `key` gives the name in the
            file where it cannot be a Python name. Null stands for a field's default.
        value: what the file holds.
        where: where `value` stands, for messages: `FILE: section.key`.

    Raises:
        InputError: unknown or missing key, or a value of another type; the message names the key's
            path.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: found {_shown(value)}, expected a mapping")
    hints = typing.get_type_hints(cls)
    fields = {field.metadata.get("key", field.name): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected one of: {', '.join(fields)}"
            raise InputError(f"{_join(where, key)}: unknown key, {hint}")
    arguments = {}
    for key, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if key in value and (required or value[key] is not None):
            arguments[field.name] = convert(hints[field.name], value[key], _join(where, key))
        elif required:
            raise InputError(f"{_join(where, key)}: missing key")
    return cls(**arguments)


def plain(value: Any) -> Any:
    """Return a dataclass (or a list of them) as mappings and lists, with the file's key names.

    The inverse of `build`. A field whose value is its metadata's `unwritten` is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.metadata.get("key", field.name): plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if "unwritten" not in field.metadata
            or getattr(value, field.name) != field.metadata["unwritten"]
        }
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint`.

    Raise `InputError` with its place where it is of another one.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        if all(dataclasses.is_dataclass(kind) for kind in kinds) and len(kinds) > 1:
            return build(_named_kind(kinds, value, where), value, where)
        # A list for a union of a string and a list, and the like: the first kind of the value's own
        # shape decides.
        fitting = (
            [kind for kind in kinds if isinstance(value, typing.get_origin(kind) or kind)]
            if len(kinds) > 1
            else kinds
        )
        return convert((fitting or kinds)[0], value, where)
    if origin is Literal:
        # Names in capitals are those of an enumeration, which nanotron looks up whatever the case.
        if isinstance(value, str) and all(
            isinstance(name, str) and name.isupper() for name in arguments
        ):
            value = value.upper()
        if isinstance(value, bool) or value not in arguments:
            raise InputError(
                f"{where}: found {_shown(value)}, expected one of: {', '.join(map(str, arguments))}"
            )
        return value
    if origin is list:
        if not isinstance(value, list):
            raise InputError(f"{where}: found {_shown(value)}, expected a list")
        return [
            convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)
        ]
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if hint in (int, float) and isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise InputError(f"{where}: found {_shown(value)}, expected a number within 64 bits")
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    number = (
        " (YAML reads 1e-5 as text: write 1.0e-5)"
        if hint is float and isinstance(value, str)
        else ""
    )
    raise InputError(
        f"{where}: found {_shown(value)}, expected {_NAMES.get(hint, hint.__name__)}{number}"
    )


def _named_kind(kinds: list[Any], value: Any, where: str) -> Any:
    """Return the dataclass whose `name` a mapping has, the first where it has none."""
    names = {
        name: kind
        for kind in kinds
        for name in typing.get_args(typing.get_type_hints(kind)["name"])
    }
    name = value.get("name") if isinstance(value, Mapping) else None
    if name is None:
        return kinds[0]
    if not isinstance(name, str) or name not in names:
        raise InputError(
            f"{_join(where, 'name')}: found {_shown(name)}, expected one of: {', '.join(names)}"
        )
    return names[name]


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _join(where: str, key: Any) -> str:
    """Append a key to a place: `FILE` + key -> `FILE: key`, `FILE: section` + key -> `FILE.

    Section.key`.
    """
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
