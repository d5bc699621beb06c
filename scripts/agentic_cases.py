r"""Answer the 100 frozen cases of tool use with a model, greedily, and write the table of passes.

python -P scripts/agentic_cases.py --model results/demo/models/nesso-agentic/sft cases.csv
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from zagreus.atomic import atomic_file
from zagreus.errors import InputError, run
from zagreus.evaluation.agentic import (
    DEFAULT_MAX_TOKENS,
    MAX_TOKENS,
    read_cases,
    read_published,
    table,
)


def main() -> None:
    """Parse the arguments, generate the answers, and write answers and table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path("reference/nesso2")
    parser.add_argument("--model", required=True, type=Path, help="transformers model folder")
    parser.add_argument("--cases", type=Path, default=folder / "agentic_cases_100.json")
    parser.add_argument("--published", type=Path, default=folder / "published_cases.csv")
    parser.add_argument("--max-tokens", type=int, help="of an answer; as published when left out")
    parser.add_argument("output", type=Path, help="the table; the answers lie beside it as .json")
    arguments = parser.parse_args()
    tools, cases = read_cases(arguments.cases)
    answers = write_answers(arguments.model, tools, cases, arguments.max_tokens)
    rows = table(cases, answers, read_published(arguments.published))
    with atomic_file(arguments.output.with_suffix(".json")) as partial:
        text = json.dumps(answers, ensure_ascii=False, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
    with (
        atomic_file(arguments.output) as partial,
        open(partial, "w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{rows[-1]['passed']} of {rows[-1]['cases']} cases passed")


def write_answers(
    folder: Path, tools: list[dict[str, Any]], cases: list[dict[str, Any]], most: int | None
) -> dict[str, str]:
    """Return the model's greedy answer to each case, by id.

    Raises:
        InputError: the folder has no chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        raise InputError(f"{folder}: no chat template, expected a model of conversations")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    answers = {}
    for case in cases:
        prompt = tokenizer.apply_chat_template(
            case["messages"],
            tools=tools,
            add_generation_prompt=True,
            enable_thinking=False,
            return_dict=True,
            return_tensors="pt",
        )
        length = most or MAX_TOKENS.get(case["cat"], DEFAULT_MAX_TOKENS)
        made = model.generate(**prompt, max_new_tokens=length, do_sample=False)[0]
        new = made[prompt["input_ids"].shape[1] :]
        answers[case["id"]] = tokenizer.decode(new, skip_special_tokens=True)
    return answers


if __name__ == "__main__":
    run(main)
