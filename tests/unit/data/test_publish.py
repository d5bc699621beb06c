"""scripts/publish.py: what it would push, and what reaches a hub on this machine.

The card with scores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_pushes import TOKEN, Hub, serve
from reporting_run import tabulate, write_run

from zagreus.manifest import write_manifest


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    server, handler = serve()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    manifests = write_run(root)
    done = tabulate(manifests, root, root / "tables")
    assert done.returncode == 0, done.stderr
    # A model folder as convert writes it, with its card.
    folder = root / "models" / "ita" / "240"
    (folder / "README.md").write_text(
        "---\nlanguage:\n- ita\nlibrary_name: transformers\n---\n\n# Zagreus\n\nA base model.\n"
    )
    inputs = [
        Path(item["path"]) for item in json.loads((folder / "manifest.json").read_text())["inputs"]
    ]
    outputs = [folder / "model.safetensors", folder / "README.md"]
    write_manifest(
        folder / "manifest.json",
        kind="model",
        name="ita/240",
        inputs=inputs,
        outputs=outputs,
        model="ita",
        checkpoint="240",
    )
    return root


def publish(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
    command = [sys.executable, "-P", "scripts/publish.py", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**kept, **environment})


def test_without_a_token_it_says_what_it_would_push(run: Path, hub: tuple[str, type[Hub]]) -> None:
    done = publish(run / "models" / "ita" / "240", "owner/name", HF_ENDPOINT=hub[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    size = (run / "models" / "ita" / "240" / "model.safetensors").stat().st_size
    assert lines[0] == f"would push {run / 'models' / 'ita' / '240'} to {hub[0]}/owner/name:"
    assert any(line.split()[:2] == ["model.safetensors", str(size)] for line in lines)
    assert lines[-1] == "nothing was pushed: no HF_TOKEN in the environment"
    assert hub[1].requests == []


def test_a_push_brings_the_files_and_the_card_with_scores(
    run: Path, hub: tuple[str, type[Hub]]
) -> None:
    folder = run / "models" / "ita" / "240"
    before = (folder / "README.md").read_bytes()
    done = publish(folder, "owner/name", HF_ENDPOINT=hub[0], HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (
        f"pushed: {hub[0]}/owner/name (3 of 3 files sent), commit " in done.stdout
        and TOKEN not in done.stdout + done.stderr
    )
    assert (
        hub[1].created[0].get("private") is True or hub[1].created[0].get("visibility") == "private"
    )
    pushed = hub[1].repositories["owner/name"].branches["main"]
    assert set(pushed) == {"model.safetensors", "manifest.json", "README.md", ".gitattributes"}
    assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    head, _, body = pushed["README.md"].decode().removeprefix("---\n").partition("\n---\n")
    about = yaml.safe_load(head)
    assert about["language"] == ["it"] and about["license"] == "other"
    results = {
        (result["dataset"]["type"], result["metrics"][0]["type"]): result["metrics"][0]["value"]
        for result in about["model-index"][0]["results"]
    }
    assert results["choice_ita", "acc"] == 0.452
    assert "| choice_ita | Italian | acc | 0.452 ± 0.035 | 500 | 0 | 0.250 | 0.280 | yes |" in body
    assert "| ita_bible |" in body and "| spa_bible |" not in body, (
        "the tokenizer alone was trained on it"
    )
    assert (
        "3 of 190 items of items (in ita_bible)" in body
        and "A base model: it continues text" in body
    )
    assert (folder / "README.md").read_bytes() == before, "the folder stays what it is"


def test_exports_go_along_under_the_names_that_programs_look_for(
    run: Path, hub: tuple[str, type[Hub]]
) -> None:
    folder = run / "models" / "nesso-instruct" / "dpo"
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# Nesso\n")
    done = publish(folder, "owner/name", HF_ENDPOINT=hub[0], HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    pushed = hub[1].repositories["owner/name"].branches["main"]
    names = {"nesso-instruct-dpo-F16.gguf": "f16", "nesso-instruct-dpo-Q8_0.gguf": "q8_0"}
    for name, form in names.items():
        made = run / "exports/nesso-instruct/dpo" / form / name
        assert pushed[name] == made.read_bytes() != b""
    head, _, body = pushed["README.md"].decode().removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["tags"] == ["gguf"]
    row = "| q8_0 | 0.0 | eng 2.3120 (+0.0020), ita 2.2010 (+0.0010) | 97.0% | ita 33.0% (35.0%) |"
    assert f"{row} 1: 900, 80; 2: 1800, 80 |" in body.replace(",800", "800")
    # Weights that were made anew: their exports are of the old ones.
    manifest = folder / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(kept.replace('"vocab_size": 16384', '"vocab_size": 16385'))
    done = publish(folder, "owner/name", HF_ENDPOINT=hub[0])
    manifest.write_text(kept)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "an export of other weights than" in done.stderr


def test_bad_input_is_one_line(run: Path, hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    folder = run / "models" / "ita" / "240"
    cases = [
        (publish(folder, "no-owner"), "expected owner/name"),
        (publish(tmp_path, "owner/name"), "no such manifest"),
        (publish(folder, "owner/name", HF_ENDPOINT=hub[0], HF_TOKEN="wrong"), "owner/name: "),
    ]
    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"other")
    cases.append((publish(folder, "owner/name"), "its sha256 is another"))
    weights.write_bytes(kept)
    for done, part in cases:
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1, (
            done.stderr
        )
