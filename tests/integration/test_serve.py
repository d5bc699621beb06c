"""A served export, as a user meets it: the page in a browser, OpenAI's interface, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from openai import OpenAI

ROOT = Path(__file__).parents[2]
QUESTION = "Come stai?"
# The page's box for a question, and what stands on the page.
BOX = "document.querySelector('textarea')"
TEXT = "document.body.innerText"


def serve(folder: Path, port: int | str) -> subprocess.Popen[str]:
    command = [str(ROOT / "bin/zagreus"), "serve", str(folder), "--port", str(port)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--threads", "1"], cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    )


@pytest.fixture(scope="module")
def address(first: Path) -> Iterator[str]:
    server = serve(first / "exports/nesso-instruct/dpo/q8_0", 0)
    assert server.stdout is not None and server.stderr is not None
    line = server.stdout.readline()
    match = re.search(r"\.gguf, answers: (http://127\.0\.0\.1:\d+)$", line.strip())
    assert match is not None, line + server.stderr.read()
    yield match[1]
    server.send_signal(signal.SIGINT)
    output, errors = server.communicate(timeout=60)
    assert server.returncode == 0 and output.endswith("ended\n"), errors
    with pytest.raises(OSError):
        urllib.request.urlopen(match[1], timeout=5)


def answered(address: str) -> dict[str, Any]:
    """Return what the server answers by OpenAI's interface, the likeliest token each time."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        data=json.dumps({"model": "any", **body}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        result: dict[str, Any] = json.load(answer)
        return result


def test_a_question_typed_into_the_page_is_answered(page: Page, address: str) -> None:
    page.open(f"{address}/", 1000, 700)
    assert page.comes(f"!!{BOX}", 60), "the page has no box for a question"
    page.click("textarea")
    page.call("Input.insertText", text=QUESTION)
    assert page.ask(f"{BOX}.value") == QUESTION
    # The page may still be asking the server what it serves.
    assert page.comes("!document.querySelector('button[type=submit]')?.disabled", 30)
    page.press("Enter")
    assert page.comes(f"{TEXT}.includes({json.dumps(QUESTION)}) && {BOX}.value === ''", 30)
    # The speed stands below a finished answer.
    assert page.comes(f"/\\d+(\\.\\d+)? (t\\/s|tokens\\/s)/.test({TEXT})", 120), page.ask(TEXT)
    answer = page.ask(TEXT).partition(QUESTION)[2]
    assert re.search(r"\w", re.sub(r"[\d.]+ (t|tokens)/s.*", "", answer, flags=re.DOTALL)), answer
    asked = [url for url in page.requests if url.startswith("http")]
    assert f"{address}/v1/chat/completions" in asked
    assert all(url.startswith(address) for url in asked), "the page needs a network"
    # The page asks for the tools of a server, which is not open to it: 403.
    assert [error for error in page.errors if "status of 403" not in error] == []


def test_openais_interface_answers(address: str) -> None:
    reply = answered(address)
    assert reply["choices"][0]["message"]["role"] == "assistant"
    assert 1 <= reply["usage"]["completion_tokens"] <= 8
    assert answered(address)["choices"][0]["message"] == reply["choices"][0]["message"]


def test_openais_own_client_is_answered(address: str) -> None:
    """It chats, streams the same text, and may offer tools: ChatML has no place for these."""
    client = OpenAI(base_url=f"{address}/v1", api_key="none")
    question: Any = [{"role": "user", "content": QUESTION}]
    parts = client.chat.completions.create(
        model="any", messages=question, stream=True, max_tokens=8, temperature=0
    )
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == answered(address)["choices"][0]["message"]["content"]
    tool: Any = {"type": "function", "function": {"name": "light", "parameters": {}}}
    reply = client.chat.completions.create(
        model="any", messages=question, tools=[tool], max_tokens=8, temperature=0
    )
    assert reply.choices[0].message.content and not reply.choices[0].message.tool_calls


def test_a_port_in_use_is_one_line(address: str, first: Path) -> None:
    port = address.rpartition(":")[2]
    second = serve(first / "exports/nesso-instruct/dpo/q8_0", port)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2 and errors.count("\n") == 1, errors
    assert f"127.0.0.1:{port}: cannot listen there" in errors
