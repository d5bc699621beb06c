"""Models of the hub.

A token of any shape stands nowhere, and what can go wrong on the way is one line.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import gguf  # noqa: F401 - the libraries are there before the scripts fork
import pytest
import safetensors.torch  # noqa: F401
import torch
import transformers
from test_baseline import small_model, small_tokenizer

from tests.unit.forked import Done, run_script

sys.path.append(str(Path(__file__).parents[1] / "data"))
from hub_faults import fault
from hub_server import serve

TOKEN = "hf_notARealTokenButASecret"
SCRIPTS = ("fetch_model", "adopt_model")
SHAPES = {
    "line end": (f"{TOKEN}\n", None),
    "Windows": (f"{TOKEN}\r\n", None),
    "inner space": (f"{TOKEN} {TOKEN}", "HF_TOKEN: a space"),
    "not ASCII": (f"{TOKEN}é", "HF_TOKEN: a character that is not plain ASCII"),
    "quoted": (f"'{TOKEN}'", "HF_TOKEN: a quote at character 1"),
    "too long": (TOKEN * 200, "HF_TOKEN: 5200 characters"),
    "another": ("hf_anotherTokenThatIsWrong", "HF_TOKEN is not let in by it"),
    "empty": ("", "HF_TOKEN is not set"),
}
FAULTS = {
    "page": "and is no hub: look at HF_ENDPOINT",
    "plain page": "answered as no hub does (",
    "401": "the hub wants a token (401), and HF_TOKEN is not set",
    "403": "the hub refuses (403)",
    "429": "the hub asks to wait (429",
    "500": "the hub failed (500)",
    "circle": "leads in a circle",
    "hang": "nothing came for 1 s",
    "broken off": "the hub did not answer",
    "refused": "Connection refused",
    "no name": "the hub did not answer (http://hub.invalid: ",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("hub")
    small_model().save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(), eos_token="<|im_end|>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    served, _ = serve(model, TOKEN)
    threading.Thread(
        target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def bring(script: str, repo: str, endpoint: str, work: Path, token: str | None = None) -> Done:
    """Run a script that brings a model of the hub."""
    entry = {"repo": repo, "revision": "main"}
    if script == "fetch_model":
        arguments = ["--entry", json.dumps(entry | {"kind": "huggingface", "title": "M"})]
    else:
        arguments = ["--entry", json.dumps(entry), "--title", "M", "--checkpoint", "1"]
    (work / "tmp").mkdir(exist_ok=True)
    variables = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "HF_HUB_DISABLE_XET": "1",
    }
    variables |= {
        "ZAGREUS_HUB_PAUSE": "0",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
    }
    # As in the images; the script for the hub goes beyond it.
    variables |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    output = work / "models/m/1/manifest.json"
    return run_script(
        f"scripts/{script}.py",
        [*arguments, "--model", "m", "--output", output],
        {**variables, "HF_TOKEN": token},
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_token_is_written(script: str, shape: str, server: str, tmp_path: Path) -> None:
    token, expected = SHAPES[shape]
    done = bring(script, "owner/gated", server, tmp_path, token)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = b"\n".join([done.stdout.encode(), done.stderr.encode(), *files])
    assert b"RealToken" not in everything and b"anotherToken" not in everything
    if expected is None:
        assert done.status == 0, done.stderr
        assert (tmp_path / "models/m/1/model.safetensors").is_file() and not (
            tmp_path / "models/m/1/.cache"
        ).exists()
    else:
        assert done.status == 2 and expected in done.error, done.stderr
        assert not list(tmp_path.glob("models/m/*"))


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_one_line(script: str, name: str, model: Path, tmp_path: Path) -> None:
    with fault(name, model) as endpoint:
        done = bring(script, "owner/open", endpoint, tmp_path)
    assert done.status == 2 and FAULTS[name] in done.error, done.stderr
    assert "owner/open at revision main" in done.error
    assert not list(tmp_path.glob("models/m/*"))


@pytest.mark.parametrize("name", ["https://huggingface.co/a/b", "a b", "a/b/c/d", "../x"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_name_of_a_repository(script: str, name: str, server: str, tmp_path: Path) -> None:
    done = bring(script, name, server, tmp_path)
    assert (
        done.status == 2
        and f"'{name}': not the name of a repository, expected owner/name" in done.error
    )
