"""Running lm-eval's tasks on a model folder, offline, with nothing kept between jobs."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.tasks
import nltk
import numpy as np
import pyarrow
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

from zagreus.errors import InputError
from zagreus.evaluation.folder import check_chat
from zagreus.evaluation.metrics import END_OF_TURN
from zagreus.evaluation.scorer import TreeModel
from zagreus.evaluation.tasks import build_task, read_recipe, read_splits


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite, read and checked: what is scored, and how."""

    name: str
    language: str
    recipe: dict[str, Any]
    shots: int
    splits: dict[str, pyarrow.Table]
    where: Path
    built: ConfigurableTask | None  # None where the prompts need the model's chat template first

    @property
    def metadata(self) -> dict[str, Any]:
        """What the task file says beside lm-eval's own keys: version, chat, constant."""
        return self.recipe.get("metadata", {})

    @property
    def rolling(self) -> bool:
        """Whether whole documents are scored."""
        return self.recipe["output_type"] == "loglikelihood_rolling"


def read_suite(tasks: Sequence[dict[str, Any]], data: Path) -> list[SuiteTask]:
    """Read a suite's task files and items (`DATA/DATASET.parquet`); every fault of theirs is found here, before a model is loaded."""
    suite = []
    for task in tasks:
        where = data / f"{task['data']}.parquet"
        recipe, splits = read_recipe(Path(task["recipe"])), read_splits(where)
        _check_nltk(recipe, task["name"])
        messages = recipe.get("metadata", {}).get("chat") == "messages"
        if messages and any("messages" not in table.column_names for table in splits.values()):
            raise InputError(f"{where}: no column 'messages', which task '{task['name']}' makes its prompts from")
        built = None if messages else build_task(task["name"], recipe, splits, task["shots"], str(where))
        suite.append(SuiteTask(task["name"], task["language"], recipe, task["shots"], splits, where, built))
    return suite


def _check_nltk(recipe: dict[str, Any], name: str) -> None:
    """Raise `InputError` where a scorer's NLTK data is missing: it would otherwise fail after all texts are generated."""
    for resource in recipe.get("metadata", {}).get("nltk", ()):
        try:
            nltk.data.find(resource)
        except LookupError:
            raise InputError(f"task '{name}': NLTK's {resource} is not to be found, expected in the folder that NLTK_DATA names") from None


class TurnModel(TreeModel):
    """The model as it is scored, which also tells whether a generation ended its turn.

    lm-eval drops the end-of-sequence token from the text, and with it the difference between an answer that ended and one that was
    cut at the longest length. Here END_OF_TURN stands in its place.
    """

    marks_turns = False  # lm-eval's own tasks check the text as it is

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Return the text of a token or of a list of tokens up to the end of the turn."""
        if not self.marks_turns or not skip_special_tokens or not isinstance(tokens, list) or self.eot_token_id not in tokens:
            return super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)
        return super().tok_decode(tokens[: tokens.index(self.eot_token_id)], skip_special_tokens=True) + END_OF_TURN


def load(folder: Path, tokenizer: transformers.PreTrainedTokenizerBase, batch_size: int) -> TurnModel:
    """Return the model in float32, on the GPU where there is one. (In bfloat16 the logits of near ties round to the same number.)"""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TurnModel(pretrained=str(folder), tokenizer=tokenizer, backend="causal", dtype="float32", device=device, batch_size=batch_size)


def check_model(suite: Sequence[SuiteTask], tokenizer: Any, configuration: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` where a model cannot take a suite, by its tokenizer and configuration alone: no chat template, or too short."""
    for task in suite:
        if task.metadata.get("chat"):
            check_chat(tokenizer, folder)
        length, wanted = configuration.get("max_position_embeddings"), task.recipe.get("generation_kwargs", {}).get("max_gen_toks", 0)
        if length is not None and wanted >= length:
            raise InputError(f"{folder}: the model takes {length} tokens, but task '{task.name}' has it write up to {wanted}")


def score(model: TurnModel, suite: Sequence[SuiteTask]) -> Iterator[tuple[SuiteTask, dict[str, Any]]]:
    """Yield each task with lm-eval's results for it (`results`, `samples`, `versions`, `higher_is_better`)."""
    for task in suite:
        built = task.built or build_task(task.name, task.recipe, _with_prompts(task, model.tokenizer), task.shots, str(task.where))
        # A document is scored as: begin-of-text, then its tokens. lm-eval puts the first one there itself; a tokenizer that adds it
        # too would have the model predict it once more. A chat template brings all its special tokens along.
        model.add_bos_token = False if task.rolling or task.metadata.get("chat") else None
        model.marks_turns = task.metadata.get("chat") == "messages"
        yield task, _evaluate(model, built, chat=task.metadata.get("chat") is True)


def _evaluate(model: TurnModel, task: ConfigurableTask, chat: bool) -> dict[str, Any]:
    # What lm-eval's simple_evaluate does, but for the listing of the machine's packages that it ends with: 2 s for every task.
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


def _with_prompts(task: SuiteTask, tokenizer: Any) -> dict[str, pyarrow.Table]:
    """Return the splits with a column `prompt`: the column `messages` through the model's chat template."""
    splits = {}
    for name, table in task.splits.items():
        prompts = [
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in table.column("messages").to_pylist()
        ]
        splits[name] = table.append_column("prompt", pyarrow.array(prompts, pyarrow.string()))
    return splits


def task_hash(samples: Sequence[dict[str, Any]]) -> str:
    """Return the sha256 over the hashes of document, prompt and target of each item, as lm-eval's own: the same for every model
    that was asked the same."""
    return hashlib.sha256("".join(item["doc_hash"] + item["prompt_hash"] + item["target_hash"] for item in samples).encode()).hexdigest()
