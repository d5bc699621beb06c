"""scripts/chat.py: over a pipe and over a pseudo-terminal, with small models of real shape."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from small import make_model, make_tokenizer

SCRIPT = [sys.executable, "-P", "scripts/chat.py"]


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("chats"), context=512).parent


@pytest.fixture(scope="module")
def continues(chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without a chat template."""
    folder = tmp_path_factory.mktemp("continues") / "model"
    shutil.copytree(chats, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    make_tokenizer(None).save_pretrained(folder)
    return folder


def talk(folder: Path, typed: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*SCRIPT, folder, *arguments], input=typed, capture_output=True, text=True, timeout=120
    )


def by_hand(folder: Path, ids: list[int], tokens: int) -> str:
    """Greedy, without cache or generate()."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    written: list[int] = []
    with torch.inference_mode():
        while len(written) < tokens:
            best = int(model(torch.tensor([ids + written])).logits[0, -1].argmax())
            if best == tokenizer.eos_token_id:
                break
            written.append(best)
    return tokenizer.decode(written, skip_special_tokens=True)


def test_plain_continuation_is_what_the_model_writes(continues: Path) -> None:
    done = talk(continues, "The model\nA second line\n", "--tokens", "12", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    tokenizer = transformers.AutoTokenizer.from_pretrained(continues)
    expected = "".join(
        f"{line}{by_hand(continues, tokenizer(line).input_ids, 12)}\n"
        for line in ("The model", "A second line")
    )
    assert done.stdout.rstrip("\n") == expected.rstrip("\n")


def test_a_conversation_is_remembered(chats: Path) -> None:
    done = talk(
        chats, "Hello\nAgain\n", "--tokens", "8", "--temperature", "0", "--system", "Be brief"
    )
    assert done.returncode == 0, done.stderr
    tokenizer = transformers.AutoTokenizer.from_pretrained(chats)
    messages, expected = [{"role": "system", "content": "Be brief"}], ""
    for line in ("Hello", "Again"):
        messages.append({"role": "user", "content": line})
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        answer = by_hand(chats, tokenizer(rendered, add_special_tokens=False).input_ids, 8)
        messages.append({"role": "assistant", "content": answer})
        expected += answer + "\n"
    assert done.stdout.rstrip("\n") == expected.rstrip("\n")


def test_a_long_talk_forgets_its_beginning_and_goes_on(chats: Path) -> None:
    done = talk(chats, "Tell me a story of the sea\n" * 20, "--tokens", "60", "--seed", "1")
    assert done.returncode == 0, done.stderr


def test_on_a_terminal_it_streams_and_ctrl_c_ends_an_answer_alone(
    chats: Path, tmp_path: Path
) -> None:
    endless = make_model(tmp_path / "endless", always=70, context=100_000).parent
    terminal, line = pty.openpty()
    process = subprocess.Popen(
        [*SCRIPT, endless, "--tokens", "90000"],
        stdin=line,
        stdout=line,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(line)

    def until(ending: bytes, seconds: float = 90) -> bytes:
        seen, ends = b"", time.monotonic() + seconds
        while ending not in seen:
            assert select.select([terminal], [], [], max(0, ends - time.monotonic()))[0], (
                f"no {ending!r} in {seen[-200:]!r}"
            )
            seen += os.read(terminal, 4096)
        return seen

    try:
        assert b"answers, on cpu" in until(b"> ")
        piece = transformers.AutoTokenizer.from_pretrained(endless).decode([70]).encode()
        for _ in range(2):
            os.write(terminal, b"Hello\n")
            until(b"Hello")
            until(piece * 3)  # it is still writing: 90,000 tokens take minutes
            process.send_signal(signal.SIGINT)
            until(b"> ")
        os.write(terminal, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(terminal)


def test_bad_input_is_one_line(chats: Path, continues: Path, tmp_path: Path) -> None:
    no_tokenizer = tmp_path / "no_tokenizer"
    shutil.copytree(chats, no_tokenizer)
    (no_tokenizer / "tokenizer.json").unlink()
    for folder, arguments, part in (
        (tmp_path / "gone", [], "gone: no such model folder"),
        (no_tokenizer, [], "no tokenizer.json, expected the tokenizer beside the weights"),
        (continues, ["--system", "x"], "--system: "),
        (chats, ["--tokens", "512"], "context is 512 tokens, expected fewer"),
    ):
        done = talk(folder, "Hello\n", *arguments)
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1, (
            done.stderr
        )
