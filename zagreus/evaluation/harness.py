"""Running lm-eval's tasks on a model folder, offline, with nothing kept between jobs."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.tasks
import numpy as np
import pyarrow
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

from zagreus.errors import InputError
from zagreus.evaluation.bfcl import open_checker
from zagreus.evaluation.files import reasons
from zagreus.evaluation.folder import check_chat
from zagreus.evaluation.metrics import END_OF_TURN
from zagreus.evaluation.scorable import Scorable
from zagreus.evaluation.scorer import TreeModel
from zagreus.evaluation.tasks import build_task, read_recipe, read_splits, set_aside
from zagreus.evaluation.templates import render
from zagreus.evaluation.tool_prompts import lists_tools, render_with_tools
from zagreus.manifest import read_manifest


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite, read and checked: what is scored, and how."""

    name: str
    language: str
    recipe: dict[str, Any]
    num_fewshot: int
    splits: dict[str, pyarrow.Table]
    where: Path
    built: ConfigurableTask | None  # None where the prompts need the model's chat template first
    usable: Scorable

    @property
    def metadata(self) -> dict[str, Any]:
        """What the task file says beside lm-eval's own keys: version, chat, majority_baseline."""
        return self.recipe.get("metadata", {})

    @property
    def rolling(self) -> bool:
        """Whether whole documents are scored."""
        return self.recipe["output_type"] == "loglikelihood_rolling"


def read_suite(tasks: Sequence[dict[str, Any]], data: Path) -> list[SuiteTask]:
    """Read a suite's task files and items (`DATA/DATASET.parquet`).

    Every fault of theirs is found here, before a model is loaded.
    """
    suite = []
    _check_names([task["name"] for task in tasks])
    for task in tasks:
        where = data / f"{task['data']}.parquet"
        recipe, splits = read_recipe(Path(task["recipe"])), read_splits(where)
        _check_nltk(recipe, task["name"])
        if recipe.get("metadata", {}).get("checker") == "bfcl-eval":
            open_checker(data / f"{task['data']}.json")
        messages = recipe.get("metadata", {}).get("chat") == "messages"
        if messages and any("messages" not in table.column_names for table in splits.values()):
            raise InputError(
                f"{where}: no column 'messages', which task '{task['name']}' makes its prompts from"
            )
        limit = _max_lost_rows(data / f"{task['data']}.json")
        prepared = (
            {split: with_messages(table) for split, table in splits.items()} if messages else splits
        )
        reduced, kept, usable = set_aside(
            task["name"], recipe, prepared, task["num_fewshot"], str(where), limit
        )
        if usable.set_aside:
            print(
                f"{task['name']}: set aside, they cannot be scored: {reasons(usable.set_aside)}",
                flush=True,
            )
        if usable.read:
            print(
                f"{task['name']}: {usable.read} answers in lower case are read as capitals",
                flush=True,
            )
        built = (
            None
            if messages
            else build_task(task["name"], reduced, kept, task["num_fewshot"], str(where))
        )
        suite.append(
            SuiteTask(
                task["name"],
                task["language"],
                recipe,
                task["num_fewshot"],
                kept,
                where,
                built,
                usable,
            )
        )
    return suite


def _check_names(names: Sequence[str]) -> None:
    """Raise `InputError` where a task's name cannot stand in tables and file names, or stands there
    twice.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise InputError(f"task {name!r}: expected a name of letters, digits, '_', '-' and '.'")
        if names.count(name) > 1:
            raise InputError(
                f"task '{name}' stands in the suite {names.count(name)} times, expected once"
            )


def _max_lost_rows(manifest: Path) -> float | None:
    """Return the share of a data set's items that a task may set aside, None where the data set
    does not say.
    """
    return (
        read_manifest(manifest).get("entry", {}).get("max_lost_rows") if manifest.exists() else None
    )


def _check_nltk(recipe: dict[str, Any], name: str) -> None:
    """Raise `InputError` where a scorer's NLTK data is missing.

    It would otherwise fail after all texts are generated.
    """
    for resource in recipe.get("metadata", {}).get("nltk", ()):
        import nltk  # here: the import takes 2.8 s, and few tasks need the library

        try:
            nltk.data.find(resource)
        except LookupError:
            raise InputError(
                f"task '{name}': NLTK's {resource} is not to be found, expected in the folder "
                "that NLTK_DATA names"
            ) from None


class TurnModel(TreeModel):
    """The model as it is scored, which also tells whether a generation ended its turn.

    lm-eval drops the end-of-sequence token from the text, and with it the difference between an
    answer that ended and one that was cut at the longest length. Here END_OF_TURN stands in its
    place.
    """

    marks_turns = False  # lm-eval's own tasks check the text as it is

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Return the text of a token or of a list of tokens up to the end of the turn."""
        if (
            not self.marks_turns
            or not skip_special_tokens
            or not isinstance(tokens, list)
            or self.eot_token_id not in tokens
        ):
            return super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)
        return (
            super().tok_decode(tokens[: tokens.index(self.eot_token_id)], skip_special_tokens=True)
            + END_OF_TURN
        )


def load(
    folder: Path, tokenizer: transformers.PreTrainedTokenizerBase, batch_size: int
) -> TurnModel:
    """Return the model in float32, on the GPU where there is one.

    (In bfloat16 the logits of near ties round to the same number.)
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TurnModel(
        pretrained=str(folder),
        tokenizer=tokenizer,
        backend="causal",
        dtype="float32",
        device=device,
        batch_size=batch_size,
    )


def check_model(
    suite: Sequence[SuiteTask], tokenizer: Any, configuration: Mapping[str, Any], folder: Path
) -> None:
    """Raise `InputError` where a model cannot take a suite, by its tokenizer and configuration
    alone: no chat template, or too short.
    """
    for task in suite:
        if task.metadata.get("chat"):
            check_chat(tokenizer, folder)
        if task.built is None:
            _with_prompts(
                task, tokenizer, str(folder)
            )  # every prompt once: what the template refuses is said here
            if _has_tools(task) and not lists_tools(tokenizer, str(folder)):
                print(
                    f"{task.name}: the chat template lists no tools, a system message lists them",
                    flush=True,
                )
        length, answer_length = (
            configuration.get("max_position_embeddings"),
            task.recipe.get("generation_kwargs", {}).get("max_gen_toks", 0),
        )
        if length is not None and answer_length >= length:
            raise InputError(
                f"{folder}: the model takes {length} tokens, but task '{task.name}' has it write "
                f"up to {answer_length}"
            )


def score(
    model: TurnModel, suite: Sequence[SuiteTask]
) -> Iterator[tuple[SuiteTask, dict[str, Any]]]:
    """Yield each task with lm-eval's results for it (`results`, `samples`, `versions`,
    `higher_is_better`).
    """
    for task in suite:
        built = task.built or build_task(
            task.name,
            task.recipe,
            _with_prompts(task, model.tokenizer, "the model"),
            task.num_fewshot,
            str(task.where),
        )
        # A document is scored as: begin-of-text, then its tokens. lm-eval puts the first one there
        # itself; a tokenizer that adds it too would have the model predict it once more. A chat
        # template brings all its special tokens along.
        model.add_bos_token = False if task.rolling or task.metadata.get("chat") else None
        model.marks_turns = task.metadata.get("chat") == "messages"
        model.by_position = bool(task.metadata.get("positions"))
        scored = replace(task, built=built)
        yield scored, _evaluate(model, built, chat=task.metadata.get("chat") is True)


def _evaluate(model: TurnModel, task: ConfigurableTask, chat: bool) -> dict[str, Any]:
    # What lm-eval's simple_evaluate does, but for the listing of the machine's packages that it
    # ends with: 2 s for every task.
    task.set_config(key="num_fewshot", value=task.config.num_fewshot or 0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    results = lm_eval.evaluate(
        lm=model,
        # Without include_defaults=False, every start would read lm-eval's 13,986 task files (20 s).
        task_dict=lm_eval.tasks.TaskManager(include_defaults=False).load([task]),
        apply_chat_template=chat,
        fewshot_as_multiturn=True,
        log_samples=True,
        bootstrap_iters=1000,
    )
    assert results is not None  # None is for the other ranks of several
    return results


def with_messages(table: pyarrow.Table) -> pyarrow.Table:
    """Return a table of conversations with a column `prompt`, the last message as it is, null where
    there is no conversation.
    """
    prompts = [_last_content(messages) for messages in table.column("messages").to_pylist()]
    return _with_column(table, prompts)


def _last_content(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return None
    whole = all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    )
    return messages[-1]["content"] if whole else None


def _with_prompts(task: SuiteTask, tokenizer: Any, folder: str) -> dict[str, pyarrow.Table]:
    """Return the splits with a column `prompt`.

    The column `messages` through the model's chat template, with the tools of the column `tools`.
    """
    splits = {}
    listed = _has_tools(task) and lists_tools(tokenizer, folder)
    for name, table in task.splits.items():
        names = [name for name in ("id", "messages", "tools") if name in table.column_names]
        prompts = [
            _prompt(tokenizer, row, f"{folder}: task '{task.name}', item '{row['id']}'", listed)
            if _last_content(row["messages"]) is not None
            else None
            for row in table.select(names).to_pylist()
        ]
        splits[name] = _with_column(table, prompts)
    return splits


def _has_tools(task: SuiteTask) -> bool:
    return any("tools" in table.column_names for table in task.splits.values())


def _prompt(tokenizer: Any, row: Mapping[str, Any], where: str, listed: bool) -> str:
    if row.get("tools") is None:
        return render(tokenizer, row["messages"], where)
    return render_with_tools(tokenizer, row["messages"], json.loads(row["tools"]), where, listed)


def _with_column(table: pyarrow.Table, prompts: list[str | None]) -> pyarrow.Table:
    rest = table.drop_columns(["prompt"]) if "prompt" in table.column_names else table
    return rest.append_column("prompt", pyarrow.array(prompts, pyarrow.string()))


def task_hash(samples: Sequence[dict[str, Any]]) -> str:
    """Return the sha256 over the hashes of document, prompt and target of each item, as lm-eval's
    own: the same for every model
    that was asked the same."""
    return hashlib.sha256(
        "".join(
            item["doc_hash"] + item["prompt_hash"] + item["target_hash"] for item in samples
        ).encode()
    ).hexdigest()
