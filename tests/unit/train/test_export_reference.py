"""The reference of exports, by transformers, against the forward pass of the exports' own tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet
import pytest

sys.path.append(str(Path(__file__).parents[1] / "export"))
from tiny_llama import SPECIAL, TEXT, make_tokenizer, make_weights, rendered, write_model
from tiny_llama import logits_of as numpy_logits

from zagreus.errors import InputError
from zagreus.export.reference import CONVERSATIONS, DOCUMENTS, TOKENS, Reference
from zagreus.export.requests import TOKENS as REQUEST_TOKENS
from zagreus.export.requests import Requests
from zagreus.export.transformers_model import reference_of
from zagreus.export.transformers_requests import requests_of
from zagreus.manifest import write_manifest

TEXTS = {"eng": [TEXT[:900], "", TEXT[900:1300]], "ita": ["Nel principio era la parola."] * 20}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "head"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = write_model(tmp_path_factory.mktemp("model"), request.param)
    return folder, make_weights(request.param), reference_of(folder, TEXTS)


def test_logits_and_tokens_are_those_of_an_independent_forward_pass(made: tuple) -> None:
    _, weights, reference = made
    assert [item.language for item in reference.documents] == ["eng"] * 2 + ["ita"] * DOCUMENTS
    item, span = reference.documents[0], reference.spans[0]
    assert len(item.ids) == TOKENS  # the text is longer
    expected = numpy_logits(weights, item.ids)[:-1]
    kept = reference.rows[reference.rows < span.stop]
    assert len(kept) > 3
    assert numpy.abs(reference.logits[: len(kept)] - expected[kept]).max() < 1e-4
    wide = expected.astype(numpy.float64)
    chosen = wide[numpy.arange(len(wide)), item.ids[1:]]
    logprobs = chosen - numpy.log(numpy.exp(wide).sum(-1))
    assert numpy.abs(reference.logprobs[span] - logprobs).max() < 1e-4
    assert (reference.greedy[span] == expected.argmax(-1)).mean() > 0.99


def test_bytes_are_those_that_are_predicted(made: tuple) -> None:
    reference = made[2]
    tokenizer = make_tokenizer()
    whole = reference.documents[-1]
    assert whole.bytes == len(b"Nel principio era la parola.")
    cut = reference.documents[0]
    assert cut.bytes == len(tokenizer.decode(cut.ids).encode())


def test_texts_and_conversations_are_the_tokenizers(made: tuple) -> None:
    reference = made[2]
    assert [text for _, text in reference.chats] == [rendered(item) for item in CONVERSATIONS]
    tokenizer = make_tokenizer()
    assert all(tokenizer.encode(text).ids == ids for text, ids in reference.texts)
    assert any(mark in text for text, _ in reference.texts for mark in SPECIAL)


def test_a_reference_comes_back_from_its_files(made: tuple, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made[2].save(tmp_path / name)
    for file in ("reference.json", "reference.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    back = Reference.load(tmp_path / "one")
    assert back.documents == made[2].documents and back.texts == made[2].texts
    assert (back.logits == made[2].logits).all() and back.spans == made[2].spans


def test_a_model_that_ends_no_turn_has_no_conversations(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["eos_token"] = SPECIAL[1]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert reference_of(folder, TEXTS).chats == []


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(InputError, match="held-out text of ita: no document of two tokens or more"):
        reference_of(folder, {"eng": [TEXT], "ita": ["", "a"][:1]})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 599}))
    with pytest.raises(InputError, match="vocabulary has 600 entries, the model's embedding 599"):
        reference_of(folder, TEXTS)


def test_answers_to_requests_are_those_of_an_independent_forward_pass(made: tuple) -> None:
    folder, weights, _ = made
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 1]}))
    items = [
        {
            "id": str(number),
            "language": "ita",
            "messages": [{"role": "user", "content": text}],
            "reference": "",
            "tool": "TurnOn",
        }
        for number, text in enumerate(["Ciao", TEXT[:900], "Accendi la luce.", "No"])
    ]
    requests = requests_of(folder, {"tools_ita": items}, 2)
    # The second one leaves no room for an answer in a context of 256.
    tokenizer = make_tokenizer()
    prompts = [
        tokenizer.encode(rendered(items[index]["messages"]), add_special_tokens=False).ids
        for index in (0, 2)
    ]
    assert [item.prompt for item in requests.items] == prompts
    assert requests.ends == [3, 1]
    for item in requests.items:
        logits = numpy_logits(weights, item.prompt + item.answer)[len(item.prompt) - 1 : -1]
        best = numpy.sort(logits, axis=-1)
        # A near tie may fall in another way in another order of sums.
        ties = best[:, -1] - best[:, -2] < 1e-4
        assert ((logits.argmax(-1) == item.answer) | ties).all()
        assert len(item.answer) == REQUEST_TOKENS or item.answer[-1] in requests.ends
    with pytest.raises(InputError, match="tools_ita: no request of at most 128 tokens"):
        requests_of(folder, {"tools_ita": items[1:2]}, None)


def test_the_script_writes_a_manifest(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    write_manifest(
        folder / "manifest.json", kind="model", name="ita/40", model="ita", checkpoint="40"
    )
    rows = pyarrow.table({"id": ["a"], "text": [TEXT[:300]]})
    pyarrow.parquet.write_table(rows, tmp_path / "heldout.parquet")
    write_manifest(tmp_path / "heldout.json", kind="evaluation_data", name="heldout")
    output = tmp_path / "reference" / "manifest.json"
    command = [sys.executable, "-P", "scripts/export_reference.py"]
    command += ["--model", str(folder / "manifest.json"), "--output", str(output)]
    texts = ["--texts", json.dumps({"eng": str(tmp_path / "heldout.json")})]
    question = [{"role": "user", "content": "Accendi la luce."}]
    item = {"id": "1", "language": "eng", "messages": question, "reference": "", "tool": "TurnOn"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([item] * 3), tmp_path / "tools.parquet")
    write_manifest(tmp_path / "tools.json", kind="evaluation_data", name="tools")
    texts += ["--requests", str(tmp_path / "tools.json"), "--request-limit", "2"]
    done = subprocess.run([*command, *texts], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(output.read_text())
    assert manifest["kind"] == "export_reference" and manifest["chat"] is True
    requests = Requests.load(output.parent)
    assert requests is not None and len(requests.items) == 2
    assert {Path(made["path"]).name for made in manifest["outputs"]} >= {"requests.json"}
    assert manifest["documents"] == 1 and manifest["languages"] == ["eng"]
