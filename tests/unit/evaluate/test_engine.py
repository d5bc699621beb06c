"""What turns requests into tokens gives what the model's own tokenizer gives, whichever engine it
is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from small import lines, make_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from zagreus.evaluation import engine
from zagreus.evaluation.harness import load

REAL = Path("results/unit/models/smollm2-135m-instruct/release")
TEXTS = [
    "Domanda: perché?\nRisposta:",
    " A",
    "  due  spazi \t\r\n\n",
    "<|im_start|>user\nciao<|im_end|>",
    "<|endoftext|>dopo",
    "日本語 и кириллица 🙂 café",
    "def f(x):\n    return x  # 12345",
    "x" * 5000,
    "\x00\x7f\ufffd",
]


def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many texts go through the fast engine, and let it serve a few texts already."""
    monkeypatch.setattr(engine, "WORTH", 0)
    counts: list[int] = []
    real = engine.fast_engine

    def counted(tokenizer: Any) -> engine.Encode:
        encode = real(tokenizer)

        def note(texts: list[str], special: bool) -> list[list[int]]:
            counts.append(len(texts))
            return encode(texts, special)

        return note

    monkeypatch.setattr(engine, "fast_engine", counted)
    return counts


@pytest.fixture(params=["small", "real"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "real" and not REAL.exists():
        pytest.skip(f"{REAL} is not there: the real model is fetched for `make test`")
    folder = REAL if request.param == "real" else make_model(tmp_path / "model").parent
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("special", [True, False])
def test_the_fast_engine_gives_the_same(
    tokenizer: Any, special: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = used(monkeypatch)
    encode = engine.choose_engine(tokenizer, TEXTS, special)
    assert encode(TEXTS, special) == [
        tokenizer(text, add_special_tokens=special)["input_ids"] for text in TEXTS
    ]
    assert counts == [len(engine.sample(TEXTS)), len(TEXTS)]


def test_pairs_are_split_alike_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "model").parent
    model = load(folder, transformers.AutoTokenizer.from_pretrained(folder), 1)
    pairs = [
        (text, answer)
        for text in [*TEXTS, *lines(20), ""]
        for answer in (" A", " una risposta", "senza")
    ]
    plain = model.encode_pairs(pairs)
    counts = used(monkeypatch)
    assert model.encode_pairs(pairs) == plain
    assert sum(counts) > len(pairs)


def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WORTH", 10**9)


def other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine, "fast_engine", lambda tokenizer: lambda texts, special: [[0] for _ in texts]
    )


@pytest.mark.parametrize(
    ("case", "said"), [(few_texts, ""), (other_tokens, "gives other tokens for one of")]
)
def test_else_the_model_s_own_tokenizer_serves(
    case: Callable[[pytest.MonkeyPatch], None],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_model(tmp_path / "model").parent)
    monkeypatch.setattr(engine, "WORTH", 0)
    case(monkeypatch)
    assert (
        engine.choose_engine(tokenizer, TEXTS, True)(TEXTS, True) == tokenizer(TEXTS)["input_ids"]
    )
    assert said in caplog.text and bool(said) == bool(caplog.text)


def test_a_tokenizer_that_the_fast_engine_cannot_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "WORTH", 0)
    words = Tokenizer(WordLevel({"uno": 0, "?": 1}, unk_token="?"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?")
    assert engine.choose_engine(tokenizer, ["uno", "due"], True)(["uno", "due"], True) == [[0], [1]]
    assert "fastokens cannot serve it" in caplog.text


def test_the_sample_has_every_character_beyond_ascii() -> None:
    texts = [
        *lines(300),
        *TEXTS,
        *(f"solo qui: {chr(code)}" for code in range(0x3040, 0x3090)),
        *lines(300),
    ]
    chosen = engine.sample(texts)
    assert {character for text in chosen for character in text if not character.isascii()} == {
        character for text in texts for character in text if not character.isascii()
    }
    assert chosen[: engine.COMPARED : engine.COMPARED - 1] == [texts[0], texts[-1]] and len(
        chosen
    ) < len(texts)
