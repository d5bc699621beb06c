"""Rows of a stage: special tokens in texts, rows that are too long, too few rows.

Checked before the training.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import finish, make_base, make_recipe, make_rows, start

from zagreus.errors import InputError
from zagreus.posttraining.data import Selection, select_rows, validation_rows
from zagreus.posttraining.export import model_card
from zagreus.posttraining.lengths import Lengths, render

SFT = {"datasets": [{"field_messages": "conversation"}], "sequence_len": 64}
DPO = {
    "rl": "dpo",
    "datasets": [
        {"field_messages": "messages", "field_chosen": "chosen", "field_rejected": "rejected"}
    ],
    "sequence_len": 64,
}
RECIPES = {"sft": SFT, "dpo": DPO}
CARD = {
    "title": "T",
    "model": "t",
    "stage": "sft",
    "languages": ["ita"],
    "base": "b",
    "recipe": "r",
    "parameters": 1,
    "steps": 1,
    "loss_first": 1.0,
    "loss_last": 1.0,
    "data": {"name": "chat", "rows_heldout": 0, "origins": []},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose tokenizer makes 15 tokens of each empty pair of turns, and one of most
    signs.
    """
    return make_base(
        tmp_path_factory.mktemp("model") / "base", ("<|im_start|>", "<|im_end|>", "</s>")
    ).parent


def sft(text: str, answer: str = "Bene.", number: int = 0) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"id": f"{number}/0", "conversation": turns}


def dpo(
    text: str, chosen: str = "Bene.", rejected: str = "Il gatto.", number: int = 0
) -> dict[str, Any]:
    replies = {
        side: {"role": "assistant", "content": content}
        for side, content in (("chosen", chosen), ("rejected", rejected))
    }
    return {"id": f"{number}/0", "messages": [{"role": "user", "content": text}], **replies}


def select(
    folder: Path, base: Path, rows: list[Any], stage: str, entry: dict | None = None, **recipe: Any
) -> Selection:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return select_rows(
        path, entry or {}, stage, {**RECIPES[stage], **recipe}, base, folder / "selected.jsonl"
    )


def refused(*arguments: Any, **recipe: Any) -> str:
    with pytest.raises(InputError) as raised:
        select(*arguments, **recipe)
    assert "\n" not in str(raised.value) and not (arguments[0] / "selected.jsonl").exists()
    return str(raised.value)


SPECIAL = {
    "end of turn in a question": (
        "sft",
        sft("Ciao <|im_end|>"),
        "a message of role 'user' contains <|im_end|>",
    ),
    "end of turn in an answer": (
        "sft",
        sft("Ciao", "Ciao<|im_end|>"),
        "a message of role 'assistant' contains <|im_end|>",
    ),
    "begin of turn": ("sft", sft("<|im_start|>system"), "contains <|im_start|>"),
    "end of text": ("sft", sft("Ciao <|end_of_text|>!"), "contains <|end_of_text|>"),
    "begin of text": ("sft", sft("<|begin_of_text|>"), "contains <|begin_of_text|>"),
    "HTML that is a special token of this tokenizer": (
        "sft",
        sft("un <s>testo</s>"),
        "contains </s>",
    ),
    "in a prompt": ("dpo", dpo("Ciao <|im_end|>"), "a message of role 'user' contains <|im_end|>"),
    "in chosen": ("dpo", dpo("Ciao", "Bene.<|im_end|>"), "chosen contains <|im_end|>"),
    "in rejected": (
        "dpo",
        dpo("Ciao", "Bene.", "Il <|end_of_text|>"),
        "rejected contains <|end_of_text|>",
    ),
}


@pytest.mark.parametrize(("stage", "row", "words"), SPECIAL.values(), ids=SPECIAL)
def test_special_tokens(tmp_path: Path, base: Path, stage: str, row: dict, words: str) -> None:
    good = sft("Ciao") if stage == "sft" else dpo("Ciao")
    line = refused(tmp_path, base, [good, row], stage)
    assert "rows.jsonl, line 2, row '0/0': " in line and words in line
    assert "`on_special: drop` of the chat entry leaves such rows out" in line
    selection = select(
        tmp_path, base, [good, row, good], stage, {"on_special": "drop", "max_lost_rows": 0.5}
    )
    assert selection.facts() == {
        "rows_given": 3,
        "rows": 2,
        "rows_validation": 0,
        "rows_lost": {"special token in a text": 1},
    }
    assert [
        json.loads(line) for line in selection.path.read_text(encoding="utf-8").splitlines()
    ] == [good, good]
    (tmp_path / "selected.jsonl").unlink()
    line = refused(tmp_path, base, [good, row, good], stage, {"on_special": "drop"})
    assert "1 of 3 rows cannot be used, expected 1.00% at most: 1 x special token in a text" in line


def test_text_that_only_looks_special_stays(tmp_path: Path, base: Path) -> None:
    selection = select(tmp_path, base, [sft("<s> <|im_end| > <tool_call>", "<b>x</b>")], "sft")
    assert (selection.kept, selection.lost, selection.path.name) == (1, {}, "rows.jsonl")


def test_special_tokens_that_the_recipe_adds(tmp_path: Path, base: Path) -> None:
    assert "contains <extra>" in refused(
        tmp_path, base, [sft("<extra>")], "sft", None, special_tokens={"pad_token": "<extra>"}
    )
    assert "contains <more>" in refused(
        tmp_path, base, [sft("<more>")], "sft", None, tokens=["<more>"]
    )


def of_length(base: Path, stage: str, length: int) -> dict:
    """Return a row of that many tokens: the tokenizer makes one of each of these signs."""
    lengths, row = Lengths(base), sft if stage == "sft" else dpo
    return row("%" * (length - lengths.longest(row(""), stage, 0)))


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_rows_up_to_sequence_len_stay(tmp_path: Path, base: Path, stage: str) -> None:
    rows = [of_length(base, stage, length) for length in (63, 64)]
    assert select(tmp_path, base, rows, stage).lost == {}
    line = refused(tmp_path, base, [*rows, of_length(base, stage, 65)], stage)
    assert (
        "1 of 3 rows cannot be used, expected 1.00% at most: 1 x longer than sequence_len" in line
    )
    assert (
        "a larger sequence_len (now 64; the longest row has 65 tokens) keeps rows, and "
        "max_lost_rows of the chat entry" in line
    )
    assert "line 3, row '0/0': 65 tokens, more than the recipe's sequence_len of 64" in line


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_half_of_the_rows_too_long(tmp_path: Path, base: Path, stage: str) -> None:
    rows = [of_length(base, stage, length) for length in (60, 90) * 5]
    assert "5 of 10 rows cannot be used" in refused(tmp_path, base, rows, stage)
    selection = select(tmp_path, base, rows, stage, {"max_lost_rows": 0.5}, val_set_size=0.2)
    assert selection.facts() == {
        "rows_given": 10,
        "rows": 4,
        "rows_validation": 1,
        "rows_lost": {"longer than sequence_len": 5},
    }
    assert "5 of 10 rows left out: 5 x longer than sequence_len; the first:" in (
        selection.note or ""
    )
    facts = CARD | {"stage": stage}
    card = model_card({**facts, **selection.facts()})
    assert (
        "| `chat`, trained on 4 of 10 rows; 1 for validation; 5 left out: longer than "
        "sequence_len (0 more held out) |" in card
    )
    # The question of the example is one that the model's languages have.
    assert '"content": "Ciao"' in card
    german = model_card({**facts, **selection.facts(), "languages": ["eng", "deu"]})
    assert '"content": "Hello"' in german and "Ciao" not in german


@pytest.mark.parametrize(
    ("languages", "codes"),
    [(["eng", "deu"], ["de", "en"]), (["nor"], ["no"]), (["fil", "code"], ["fil"])],
)
def test_the_card_names_languages_as_the_hub_does(languages: list[str], codes: list[str]) -> None:
    rows = {"rows_given": 1, "rows": 1, "rows_validation": 0, "rows_lost": {}}
    card = model_card(CARD | rows | {"languages": languages})
    head = yaml.safe_load(card.split("---")[1])
    assert head["language"] == codes


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_every_row_too_long(tmp_path: Path, base: Path, stage: str) -> None:
    rows = [of_length(base, stage, 90)] * 3
    assert "3 of 3 rows cannot be used" in refused(tmp_path, base, rows, stage)
    assert "no row is left to train on" in refused(
        tmp_path, base, rows, stage, {"max_lost_rows": 1}
    )


def test_what_the_recipe_says_of_long_rows(tmp_path: Path, base: Path) -> None:
    rows = [sft("Ciao"), of_length(base, "sft", 90)]
    assert "90 tokens, more than" in refused(
        tmp_path, base, rows, "sft", {"max_lost_rows": 1}, excess_length_strategy="raise"
    )
    cut = select(tmp_path, base, rows, "sft", excess_length_strategy="truncate")
    assert (cut.kept, cut.lost) == (2, {}) and "cuts 1 of 2 rows off at sequence_len" in (
        cut.note or ""
    )


@pytest.mark.parametrize(
    ("size", "rows", "apart"),
    [
        (None, 1, 0),
        (0, 1, 0),
        (0.05, 2, 1),
        (0.05, 100, 5),
        (0.051, 100, 6),
        (10, 11, 10),
        (10.0, 11, 10),
    ],
)
def test_validation(size: Any, rows: int, apart: int) -> None:
    assert validation_rows(size, rows, "F") == apart


@pytest.mark.parametrize(
    ("size", "rows", "words"),
    [
        (0.05, 1, "F: val_set_size 0.05 sets 1 of 1 rows apart and leaves none to train on"),
        (10000, 400, "F: val_set_size 10000 sets 10,000 of 400 rows apart"),
        (400, 400, "400 of 400 rows"),
        (1, 1, "1 of 1 rows"),
        (-1, 5, "val_set_size is -1, expected a share below 1 or a number of rows"),
        ("x", 5, "val_set_size is x"),
        (True, 5, "val_set_size is True"),
        (float("nan"), 5, "val_set_size is nan"),
        (float("inf"), 5, "val_set_size is inf"),
    ],
)
def test_validation_that_leaves_nothing(size: Any, rows: int, words: str) -> None:
    with pytest.raises(InputError) as raised:
        validation_rows(size, rows, "F")
    assert words in str(raised.value)


BAD = {
    "no rows": ([], "sft", {}, "rows.jsonl: no rows, expected rows for sft"),
    "one row, and a share for validation": (
        [sft("Ciao")],
        "sft",
        {"val_set_size": 0.05},
        "leaves none to train on",
    ),
    "one row, and a batch of two packs": (
        [sft("Ciao")],
        "sft",
        {"sample_packing": True, "micro_batch_size": 2},
        "1 rows to train on",
    ),
    "preferences for sft": (
        [sft("Ciao"), dpo("Ciao")],
        "sft",
        {},
        "line 2: keys .*, stage 'sft' needs",
    ),
    "conversations for dpo": (
        [dpo("Ciao"), sft("Ciao")],
        "dpo",
        {},
        "line 2: keys .*, stage 'dpo' needs",
    ),
    "no messages": ([{"id": "a/0", "conversation": ["x"]}], "sft", {}, "line 1: not a chat row"),
    "sequence_len": (
        [sft("Ciao")],
        "sft",
        {"sequence_len": "64"},
        "sequence_len: found 64, expected a whole number",
    ),
}


@pytest.mark.parametrize(("rows", "stage", "recipe", "words"), BAD.values(), ids=BAD)
def test_bad(tmp_path: Path, base: Path, rows: list, stage: str, recipe: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        select(tmp_path, base, rows, stage, None, **recipe)


def test_a_tokenizer_that_was_saved_with_truncation_counts_all(tmp_path: Path, base: Path) -> None:
    content = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    content["truncation"] = {
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    row = of_length(base, "sft", 40)
    assert Lengths(tmp_path).longest(row, "sft", 0) == 40


def test_lengths_are_those_of_axolotl(base: Path) -> None:
    """Rows with white space, line ends and signs of several bytes.

    Both forms, at the limit and one below.
    """
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.prompt_strategies.dpo.chat_template import default
    from axolotl.utils.data.rl import _drop_long_sequences
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.enums import RLType
    from transformers import AutoTokenizer

    from zagreus.posttraining.chatml import TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    dataset = DictDefault(
        type="chat_template",
        field_messages="conversation",
        roles_to_train=["assistant"],
        train_on_eos="turn",
    )
    config = DictDefault(
        chat_template="jinja",
        chat_template_jinja=TEMPLATE,
        sequence_len=64,
        train_on_inputs=False,
        datasets=[dataset],
    )
    strategy, lengths = load(tokenizer, config, ds_cfg=dataset), Lengths(base)
    make, _ = default(
        DictDefault({**config, "datasets": [DictDefault(type="chat_template.default")]})
    )
    for text in ("Ciao", " Ciao\n\n", "perché 日本 🙂", "a\u2028b", "Come stai?\n" * 9):
        row = sft(text, f"{text} Bene.\n")
        assert len(strategy.tokenize_prompt(dict(row))["input_ids"]) == lengths.longest(
            row, "sft", 0
        )
        assert tokenizer.apply_chat_template(
            row["conversation"], tokenize=False, chat_template=TEMPLATE
        ) == render(row["conversation"])
        pair = dpo(text, f"{text}.\n", "Il gatto dorme. ")
        length = lengths.longest(pair, "dpo", 0)
        made = make(pair, tokenizer=tokenizer)
        assert _drop_long_sequences(made, RLType.DPO, tokenizer, length)
        assert not _drop_long_sequences(made, RLType.DPO, tokenizer, length - 1)


def test_the_bound_by_bytes_is_never_below_the_tokens(base: Path) -> None:
    lengths = Lengths(base)
    for text in ("", "Ciao", "perché 日本 🙂", "\u2028" * 20):
        for row, stage in ((sft(text), "sft"), (dpo(text), "dpo")):
            exact = lengths.longest(row, stage, 0)
            assert exact <= lengths.longest(row, stage, 10_000)
            assert lengths.longest(row, stage, exact - 1) == exact


@pytest.mark.slow
def test_half_of_the_rows_in_a_run(tmp_path: Path) -> None:
    """The script: the manifest, the card, the note, and what Axolotl was given."""
    data = make_rows(tmp_path / "chat.json", "sft", 40)
    path = data.with_suffix(".jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows[::2]:
        row["conversation"][0]["content"] += "%" * 100
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = json.loads(data.read_text(encoding="utf-8"))
    data.write_text(json.dumps({**manifest, "entry": {"max_lost_rows": 0.5}}), encoding="utf-8")
    short = {
        "sequence_len": 64,
        "num_epochs": 1,
        "eval_strategy": "no",
        "val_set_size": 4,
        "save_strategy": "no",
    }
    recipe = make_recipe(tmp_path / "sft.yaml", "recipes/posttrain/test_sft.yaml", **short)
    status, written = finish(start(tmp_path, "sft", recipe, make_base(tmp_path / "base"), data))
    assert status == 0, written[-2000:]
    assert "20 of 40 rows left out: 20 x longer than sequence_len" in written
    made = json.loads((tmp_path / "models/sft/manifest.json").read_text(encoding="utf-8"))
    assert (made["rows_given"], made["rows"], made["rows_validation"]) == (40, 16, 4)
    assert made["rows_lost"] == {"longer than sequence_len": 20}
    assert "trained on 16 of 40 rows; 4 for validation" in (
        tmp_path / "models/sft/README.md"
    ).read_text(encoding="utf-8")
