"""Chat templates: what is trained on, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
from tiny import make_base

from zagreus.data.chat.rows import check_row
from zagreus.errors import InputError
from zagreus.posttraining.chatml import TEMPLATE
from zagreus.posttraining.templates import NAMED, ChatTemplate, template_of
from zagreus.posttraining.turns import Encoded, Encoder

TOKENS = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TOOL = {"type": "function", "function": {"name": "somma", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "somma", "arguments": {"è": [1, "due"]}}}


def message(role: str, content: str, **further: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **further}


PLAIN = [
    message("system", "Sii breve."),
    message("user", "Ciao"),
    message("assistant", "Ciao a te è"),
    message("user", "Che ore sono?"),
    message("assistant", "\n Non lo so. "),
]
WITH_TOOLS = [
    message("user", "Somma 1 e 2"),
    message("assistant", "", tool_calls=[CALL, CALL]),
    message("tool", "3"),
    message("tool", "4"),
    message("assistant", "Fa 3."),
    message("user", "E poi?"),
    message("assistant", "Somma", tool_calls=[CALL]),
    message("tool", "5"),
    message("assistant", "Fa 5."),
]
ROWS = {
    "plain": {"id": "a/0", "conversation": PLAIN},
    "tools": {"id": "b/0", "conversation": WITH_TOOLS, "tools": [TOOL]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base", TOKENS).parent


# ChatML has no tools, see test_refused.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in NAMED for kind in ROWS if (name, kind) != ("chatml", "tools")],
)
def test_labels_are_the_turns_of_the_assistant(base: Path, name: str, kind: str) -> None:
    template = template_of({"template": name})
    assert template
    row = ROWS[kind]
    check_row(row, "test")
    encoder = Encoder(base, template)
    encoded = encoder.encode(row, "row")
    # Independent of the encoder: decode the labels and look for what was said.
    said = [turn for turn in row["conversation"] if turn["role"] == "assistant"]
    assert len(encoded.turns) == len(said)
    decode = encoder._tokenizer.decode
    labelled = decode([label for label in encoded.labels if label != -100], False)
    assert labelled == "".join(encoded.turns)
    assert labelled.count(template.stop) == len(said)
    rest = decode(
        [t for t, label in zip(encoded.input_ids, encoded.labels, strict=True) if label == -100],
        False,
    )
    for turn in row["conversation"]:
        if turn["role"] != "assistant":
            assert turn["content"] in rest
    for turn, text in zip(said, encoded.turns, strict=True):
        assert text.startswith(turn["content"]) and text.endswith(template.stop)
        assert text.count("<tool_call>") == len(turn.get("tool_calls", ()))
    # A generation begins with exactly the tokens that stand before the turn.
    prompt = encoder.render(row["conversation"][:-1], row.get("tools"), prompt=True)
    whole = decode(encoded.input_ids, False)
    assert whole.startswith(prompt + encoded.turns[-1])
    assert whole == encoder.render(row["conversation"], row.get("tools"))


def test_chatml_is_what_axolotl_renders() -> None:
    template = template_of({"template": "chatml"})
    assert template and template.file.read_text(encoding="utf-8") == TEMPLATE
    assert template_of({}) is None


GOOD = "{% for m in messages %}{{ m.role + ':' + m.content + '<|im_end|>' }}{% endfor %}"
GOOD += "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
REFUSED = {
    "no tools": (TEMPLATE, "tools", "does not render the tool"),
    "no end of a turn": (GOOD.replace("<|im_end|>", ";"), "plain", "no <|im_end|> after"),
    "the last turn alone": (
        GOOD.replace("m.content", "(m.content if loop.last else '...')"),
        "plain",
        "rendered differently",
    ),
    "another generation prompt": (
        GOOD.replace("'assistant:'", "'model:'"),
        "plain",
        "rendered differently",
    ),
    "leaves out an answer": (
        GOOD.replace("m.content", "('' if m.role == 'assistant' else m.content)"),
        "plain",
        "expected the assistant's turn",
    ),
    "out of the sandbox": (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}" + GOOD,
        "plain",
        "the template fails: access to attribute",
    ),
    "changes what it is given": ("{% set x = messages.pop() %}" + GOOD, "plain", "fails: .*pop"),
    "no Jinja": ("{% for %}", "plain", "the template fails"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(base: Path, tmp_path: Path, name: str) -> None:
    text, kind, expected = REFUSED[name]
    file = tmp_path / "template.jinja"
    file.write_text(text, encoding="utf-8")
    encoder = Encoder(base, ChatTemplate(file, "<|im_end|>"))
    row = copy.deepcopy(ROWS[kind])
    with pytest.raises(InputError, match=expected):
        encoder.encode(row, "row 1")


def test_a_file_of_ones_own(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text(GOOD, encoding="utf-8")
    encoder = Encoder(base, ChatTemplate(file, "<|im_end|>"))
    assert encoder.encode(ROWS["plain"], "row 1").turns[0] == "Ciao a te è<|im_end|>"
    with pytest.raises(InputError, match="not among the special tokens"):
        Encoder(base, ChatTemplate(file, "<|end_of_turn|>"))


@pytest.mark.parametrize("change", ["one more", "one less", "all", "none"])
def test_wrong_labels_are_noticed(base: Path, change: str) -> None:
    template = template_of({"template": "hermes"})
    assert template
    encoder = Encoder(base, template)
    encoded = encoder.encode(ROWS["tools"], "row")
    labels = list(encoded.labels)
    first = next(position for position, label in enumerate(labels) if label != -100)
    if change == "one more":
        labels[first - 1] = encoded.input_ids[first - 1]
    elif change == "one less":
        labels[first] = -100
    else:
        labels = list(encoded.input_ids) if change == "all" else [-100] * len(labels)
    with pytest.raises(InputError, match="labels are|labelled turns"):
        encoder.check_labels(
            Encoded(encoded.input_ids, labels, encoded.turns), ROWS["tools"], "row"
        )
