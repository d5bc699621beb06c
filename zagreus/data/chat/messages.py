"""Conversations and preferences in the forms of public data sets -> chat rows of ours.

Read are messages as role and content or as from and value (ShareGPT); content as a list of text
parts (OpenAI); a prompt as plain text; replies as plain text, as a message, or as whole
conversations (UltraFeedback). A row that cannot be written as user and assistant in turn raises
`RowError` with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zagreus.data.chat.tools import read_calls, read_tools
from zagreus.records import RowError, kind_of, shortened

MESSAGE_KEYS = (("role", "content"), ("from", "value"))
# The roles' other names.
ROLE_NAMES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
}
TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "observation")
RESULT_ROLES = ("tool", "function", "observation")
TOOL_KEYS = ("tool_calls", "function_call")
Message = dict[str, Any]


def from_columns(
    record: Mapping[str, Any],
    columns: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """Return what a record holds as `conversation`, or as `messages`, `chosen` and `rejected`.

    Args:
        record: the record.
        columns: which column is `messages`, `chosen` and `rejected`; with `tools`, the
            column of tools, messages may call tools; `keep` lists columns for filters.
        where: file and row, for messages.

    Raises:
        RowError: a column is missing, or what it holds cannot be written as messages.
    """
    missing = [column for column in names_of(columns) if column not in record]
    if missing:
        keys = sorted(map(str, record))
        raise RowError("missing key", f"{where}: no key {missing}, it has {keys}")
    kept = (
        {"columns": {name: record[name] for name in columns["keep"]}} if "keep" in columns else {}
    )
    if "tools" in columns:
        tools = read_tools(record[columns["tools"]] or [], where)
        messages = _conversation(record[columns["messages"]], where, with_tools=True)
        return {"conversation": messages, **({"tools": tools} if tools else {}), **kept}
    if "chosen" not in columns:
        return {"conversation": _conversation(record[columns["messages"]], where), **kept}
    before, replies = [], []
    if "messages" in columns:
        before.append(_prompt(record[columns["messages"]], where))
    for side in ("chosen", "rejected"):
        context, reply = _reply(record[columns[side]], f"{where}, {side}")
        replies.append(reply)
        if context:
            before.append(context)
    messages = _common(before, where)
    return {"messages": messages, "chosen": replies[0], "rejected": replies[1], **kept}


def names_of(columns: Mapping[str, Any]) -> list[str]:
    """Return the names of all columns that are read."""
    named = [column for key, column in columns.items() if key != "keep"]
    return [*named, *columns.get("keep", ())]


def _conversation(value: Any, where: str, with_tools: bool = False) -> list[Message]:
    if not isinstance(value, list):
        problem = f"a conversation must be a list of messages, found {kind_of(value)}"
        raise RowError("no list of messages", f"{where}: {problem} ({shortened(value)})")
    return [_message(item, where, with_tools) for item in value]


def _prompt(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return _conversation(value, where)


def _reply(value: Any, where: str) -> tuple[list[Message], Message]:
    """Return (the messages before the reply, where there are some, and the reply)."""
    if isinstance(value, str):
        return [], {"role": "assistant", "content": value}
    if not isinstance(value, list):
        return [], _message(value, where)
    if not value:
        raise RowError("no reply", f"{where}: an empty conversation, expected a reply")
    *context, reply = _conversation(value, where)
    return context, reply


def _common(conversations: list[list[Message]], where: str) -> list[Message]:
    """Return the longest of the conversations; the others must be its beginning or its end.

    A prompt column often leaves out the system message, or the turns after the first.
    """
    if not conversations:
        problem = "no column with the prompt, and the replies are not whole conversations"
        raise RowError("no prompt", f"{where}: {problem}")
    longest = max(conversations, key=len)
    texts = _texts(longest)
    for other in map(_texts, conversations):
        if other and other not in (texts[: len(other)], texts[-len(other) :]):
            problem = "the messages before the two replies, or those of the prompt, differ"
            raise RowError("different prompts", f"{where}: {problem}")
    return longest


def _texts(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message["role"], str(message["content"]).strip()) for message in messages]


def _message(item: Any, where: str, with_tools: bool = False) -> Message:
    """Return a message with the keys and roles of our rows; its content is text."""
    if not isinstance(item, Mapping):
        problem = f"found {kind_of(item)} ({shortened(item)}), expected role and content"
        raise RowError("no message", f"{where}: {problem}")
    keys = [keys for keys in MESSAGE_KEYS if item.get(keys[0]) is not None]
    if not keys:
        problem = f"message {shortened(item)}, expected role and content"
        raise RowError("message without a role", f"{where}: {problem}")
    role, content = item[keys[0][0]], item.get(keys[0][1])
    if not isinstance(role, str):
        problem = f"a role that is {kind_of(role)} ({shortened(role)}), expected text"
        raise RowError("role that is no text", f"{where}: {problem}")
    name = role.strip().lower()
    if with_tools and name in (*RESULT_ROLES, "assistant", *ROLE_NAMES) and item.get("tool_calls"):
        calls = read_calls(item["tool_calls"], where)
        text = _content(content, where) if content else ""
        return {"role": ROLE_NAMES.get(name, name), "content": text, "tool_calls": calls}
    if with_tools and name in RESULT_ROLES:
        return {"role": "tool", "content": _content(content, f"{where}, role '{role}'")}
    if name in TOOL_ROLES or any(item.get(key) for key in TOOL_KEYS):
        problem = f"a message of role '{role}' with a call of a tool or its result"
        raise RowError("tool calls", f"{where}: {problem}, expected text of user and assistant")
    text = _content(content, f"{where}, role '{role}'")
    return {"role": ROLE_NAMES.get(name, name), "content": text}


def _content(content: Any, where: str) -> str:
    if content is None:
        raise RowError("empty message", f"{where}: an empty message (null)")
    if isinstance(content, list) and content and all(map(_is_text_part, content)):
        return "".join(part["text"] for part in content)
    if not isinstance(content, str):
        problem = f"content that is {kind_of(content)} ({shortened(content)}), expected text"
        raise RowError("content that is no text", f"{where}: {problem}")
    return content


def _is_text_part(part: Any) -> bool:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        return False
    return isinstance(part.get("text"), str)
