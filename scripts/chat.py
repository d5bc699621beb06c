"""Talk to a model in the terminal.

    bin/zagreus chat results/demo/models/nesso-instruct/dpo

The answer appears token by token. Ctrl-C ends an answer; Ctrl-D or an empty line ends the talk.

A chat model answers, and remembers the conversation as far as its context reaches. A chat model has
a chat template and can end its turns. Any other model goes on writing where the line ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

from zagreus.errors import InputError, run
from zagreus.evaluation.folder import check_chat, check_folder
from zagreus.terminal import typed_lines


class Typewriter:
    """Writes tokens as they come, a streamer of transformers.

    A character of several tokens waits for its last one.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer, self.written, self.prompt = tokenizer, 0, True
        self.ids: list[int] = []

    def put(self, value: Any) -> None:
        """Take the prompt, which is not written, or the next token."""
        if self.prompt:
            self.prompt = False
            return
        self.ids += value.reshape(-1).tolist()
        text = self.text
        if not text.endswith("\ufffd"):
            print(text[self.written :], end="", flush=True)
            self.written = len(text)

    def end(self) -> None:
        """Write what still waits, and end the line."""
        print(self.text[self.written :], flush=True)

    @property
    def text(self) -> str:
        """All that the model wrote."""
        return self.tokenizer.decode(self.ids, skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, help="a model folder: results/demo/models/nesso-instruct/dpo"
    )
    parser.add_argument("--system", help="a system prompt, for a model with a chat template")
    parser.add_argument(
        "--plain", action="store_true", help="no chat template: go on with the line"
    )
    parser.add_argument("--forget", action="store_true", help="each line begins a new conversation")
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
    parser.add_argument("--seed", type=int, help="for the same answers again")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: a GPU where there is one"
    )
    arguments = parser.parse_args()

    config = check_folder(arguments.model)

    # Seconds, so that a wrong folder is told before.
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    chats = not arguments.plain
    try:
        check_chat(tokenizer, arguments.model)
    except InputError as error:
        # A base model may carry a template that it was never trained with: no turn of it would end.
        chats = False
        if arguments.system:
            raise InputError(f"--system: {error}") from None
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no GPU here")
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    context = config.get("max_position_embeddings", 2048)
    if arguments.tokens >= context:
        raise InputError(
            f"--tokens {arguments.tokens}: the model's context is {context} tokens, expected fewer"
        )
    if arguments.seed is not None:
        torch.manual_seed(arguments.seed)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    transformers.utils.logging.disable_progress_bar()
    model = (
        transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
        .to(device)
        .eval()
    )
    if sys.stdin.isatty():
        print(
            f"{arguments.model}, {'answers' if chats else 'continues a text'}, on {device}. "
            "Ctrl-D to end."
        )
    drawing: dict[str, Any] = {"do_sample": False}
    if arguments.temperature > 0:
        drawing = {
            "do_sample": True,
            "temperature": arguments.temperature,
            "top_p": arguments.top_p,
            "top_k": 0,
        }
    messages: list[dict[str, str]] = (
        [{"role": "system", "content": arguments.system}] if arguments.system else []
    )
    begin = list(messages)
    for line in typed_lines():
        if arguments.forget:
            messages = list(begin)
        if chats:
            messages.append({"role": "user", "content": line})
        ids = _prompt(tokenizer, messages, line, chats, context - arguments.tokens)
        typewriter = Typewriter(tokenizer)
        if not chats:
            print(line, end="", flush=True)
        try:
            with torch.inference_mode():
                model.generate(
                    ids.to(device),
                    attention_mask=torch.ones_like(ids).to(device),
                    max_new_tokens=arguments.tokens,
                    pad_token_id=tokenizer.eos_token_id,
                    streamer=typewriter,
                    **drawing,
                )
        except KeyboardInterrupt:
            typewriter.end()
        if chats:
            messages.append({"role": "assistant", "content": typewriter.text})


def _prompt(
    tokenizer: Any, messages: list[dict[str, str]], line: str, chats: bool, room: int
) -> Any:
    """Return the ids of what the model is given, int64 [1, at most room].

    Where the talk is too long, its oldest turns are forgotten.
    """
    while chats:
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt").input_ids
        first = 1 if messages[0]["role"] == "system" else 0
        if ids.shape[1] <= room or len(messages) - first <= 1:
            return ids[:, -room:]
        del messages[first : first + 2]
    return tokenizer(line, return_tensors="pt").input_ids[:, -room:]


if __name__ == "__main__":
    run(main)
