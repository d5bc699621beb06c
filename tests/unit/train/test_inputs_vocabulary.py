"""What training takes of a tokenizer: the rows of the embedding, the begin and the end token."""

import json
from pathlib import Path

import pytest

from zagreus.errors import InputError
from zagreus.training.render import token_ids


def write(folder: Path, begin: str | None, size: int) -> Path:
    added = [{"id": 5, "content": "<s>"}, {"id": size - 1, "content": "</s>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    path = folder / "manifest.json"
    facts = {"kind": "tokenizer", "vocab_size": size, "bos_token": begin, "eos_token": "</s>"}
    path.write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize(
    ("begin", "bos"),
    [("<s>", 5), (None, 1002)],  # without a begin token the end token stands for it
)
def test_ids_with_holes(tmp_path: Path, begin: str | None, bos: int) -> None:
    ids = token_ids(write(tmp_path, begin, 1003))
    assert (ids.vocab_size, ids.bos, ids.eos) == (1003, bos, 1002)


def test_a_token_that_the_file_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no special token '<b>', which .* gives as bos_token"):
        token_ids(write(tmp_path, "<b>", 1003))
