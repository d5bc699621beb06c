"""Chat templates of others.

What they refuse is one line with the remedy, found before weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from zagreus.errors import InputError

REMEDIES = {
    "system": "take conversations without a system message, or score the model without this task",
    "order": (
        "take conversations in which user and assistant alternate, or score the model "
        "without this task"
    ),
    "other": (
        "correct the template (chat_template.jinja, or tokenizer_config.json), or score the "
        "model without chat tasks"
    ),
}


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    where: str,
    prompt: bool = True,
    **options: Any,
) -> str:
    """Return messages through a tokenizer's chat template.

    Args:
        tokenizer: of transformers.
        messages: `role` and `content` of each.
        where: the model's folder, and what the messages are of, for the error.
        prompt: whether the beginning of an answer is added.
        options: what else the template is given, as `tools`.

    Raises:
        InputError: the template refuses the messages (Gemma's a system message, Mistral's roles
            that do not alternate), or is no template.
    """
    try:
        rendered = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt, **options
        )
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:
        roles = [str(message["role"]) for message in messages]
        problem = " ".join(str(error).split()) or type(error).__name__
        remedy = REMEDIES[_cause(roles)]
        raise InputError(
            f"{where}: the chat template refuses the roles {', '.join(roles)} ({problem}); {remedy}"
        ) from None
    if not isinstance(rendered, str):
        raise InputError(
            f"{where}: the chat template gives {type(rendered).__name__}, expected text"
        )
    return rendered


def _cause(roles: Sequence[str]) -> str:
    if "system" in roles:
        return "system"
    expected = ["user", "assistant"] * len(roles)
    return "order" if list(roles) != expected[: len(roles)] else "other"
