"""Several problems of one input, said in one line."""

from __future__ import annotations

from collections.abc import Iterable

from zagreus.errors import InputError


def raise_all(problems: Iterable[str], where: str) -> None:
    """Raise `InputError` with all problems of an input, each once; nothing where there is none.

    Args:
        problems: one line each, in the order in which they are said.
        where: the input, for the message.
    """
    # A path or a name may hold a line end.
    different = list(dict.fromkeys(line.replace("\n", "\\n") for line in problems))
    if len(different) == 1:
        raise InputError(f"{where}: {different[0]}")
    if different:
        listed = "; ".join(f"({number}) {line}" for number, line in enumerate(different, 1))
        raise InputError(f"{where}: {len(different)} problems: {listed}")
