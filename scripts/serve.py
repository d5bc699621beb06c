"""Serve an exported model: an OpenAI-compatible server with a page to talk to the model.

    bin/zagreus serve results/demo/models/nesso-instruct/dpo
    bin/zagreus serve results/demo/exports/nesso-instruct/dpo/q8_0 --port 8000

The server is llama.cpp's. This machine alone reaches it, unless --host says otherwise. Ctrl-C ends
it.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

# Threads that wait give their core away: llama.cpp's library reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from zagreus.errors import InputError, run
from zagreus.export.server import LOOPBACK, file_facts, find_file, serving


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, help="a GGUF file, the folder of an export, or a model folder of a run"
    )
    parser.add_argument("--format", help="which export of a model folder; default: the smallest")
    parser.add_argument("--host", default=LOOPBACK, help=f"default: {LOOPBACK}, this machine alone")
    parser.add_argument("--port", type=int, default=8080, help="0: a free one; default: 8080")
    parser.add_argument(
        "--context", type=int, help="tokens of a conversation; default: the model's"
    )
    parser.add_argument("--parallel", type=int, default=1, help="conversations at a time")
    parser.add_argument("--threads", type=int, help="CPU threads; default: one a core")
    arguments = parser.parse_args()

    path = find_file(arguments.model, arguments.format)
    longest, chat = file_facts(path)
    context = arguments.context or longest
    if not 0 < context <= longest:
        raise InputError(f"--context {context}: {path} takes 1 to {longest:,} tokens")
    if arguments.parallel < 1:
        raise InputError(f"--parallel {arguments.parallel}: expected 1 or more")
    threads = arguments.threads or len(os.sched_getaffinity(0))
    ended = threading.Event()
    with serving(
        path,
        context=context,
        threads=threads,
        host=arguments.host,
        port=arguments.port,
        parallel=arguments.parallel,
    ) as address:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        print(f"{path.name}, {'answers' if chat else 'continues a text'}: {address}", flush=True)
        print(f"a page to talk to the model: {address}/   OpenAI's interface: {address}/v1")
        if arguments.host not in (LOOPBACK, "localhost", "::1"):
            print(f"whoever reaches {arguments.host} can use this server: it asks for no password")
        print("Ctrl-C ends the server", flush=True)
        ended.wait()
    print("ended")


if __name__ == "__main__":
    run(main)
