"""Talk in the terminal to an export or to a server. The answer appears as it is written.

    bin/zagreus chat results/demo/exports/nesso-instruct/dpo/q8_0
    bin/zagreus chat http://127.0.0.1:8080

Ctrl-C ends an answer, Ctrl-D (or an empty line) the talk.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# Threads that wait give their core away: llama.cpp's library reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from zagreus.errors import InputError, run
from zagreus.export.server import file_facts, find_file, serving, stream
from zagreus.terminal import typed_lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a server's address, a GGUF file or the folder of an export")
    parser.add_argument("--system", help="a system prompt, for a model with a chat template")
    parser.add_argument(
        "--plain", action="store_true", help="no chat template: go on with the line"
    )
    parser.add_argument("--tokens", type=int, default=256, help="the longest answer")
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="0: the likeliest token each time"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=0.95,
        help="draw among the likeliest tokens that make up this share",
    )
    parser.add_argument("--seed", type=int, default=-1, help="for the same answers again")
    parser.add_argument("--threads", type=int, help="CPU threads; default: one a core")
    arguments = parser.parse_args()

    with ExitStack() as stack:
        chat = not arguments.plain
        if arguments.model.startswith(("http://", "https://")):
            address = arguments.model.rstrip("/").removesuffix("/v1")
        else:
            path = find_file(Path(arguments.model))
            context, answers = file_facts(path)
            if arguments.system and not answers:
                raise InputError(f"--system: {path} has no chat template")
            chat = chat and answers
            threads = arguments.threads or len(os.sched_getaffinity(0))
            address = stack.enter_context(serving(path, context=context, threads=threads))
        settings = {
            "max_tokens": arguments.tokens,
            "temperature": arguments.temperature,
            "top_p": arguments.top_p,
            "seed": arguments.seed,
        }
        if sys.stdin.isatty():
            print(f"{arguments.model}, {'answers' if chat else 'continues a text'}. Ctrl-D to end.")
        talk(address, chat, arguments.system, settings)


def talk(address: str, chat: bool, system: str | None, settings: dict[str, Any]) -> None:
    """Read lines and write answers until the lines end."""
    messages = [{"role": "system", "content": system}] if system else []
    for line in typed_lines():
        messages.append({"role": "user", "content": line})
        path, body = "/v1/chat/completions", settings | {"messages": messages}
        if not chat:
            path, body = "/v1/completions", settings | {"prompt": line}
            print(line, end="", flush=True)
        written = ""
        try:
            for part in stream(address, path, body):
                piece = piece_of(part)
                written += piece
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pass
        print(flush=True)
        messages.append({"role": "assistant", "content": written})


def piece_of(part: dict[str, Any]) -> str:
    """Return the text of one part of a streamed answer."""
    choices = part.get("choices") or [{}]
    return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""


if __name__ == "__main__":
    run(main)
