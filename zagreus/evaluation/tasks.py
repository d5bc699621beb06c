"""lm-eval tasks from a task file (recipes/evaluate) and the items of a data set."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import jinja2
import lm_eval.tasks
import lm_eval.utils
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from zagreus.errors import InputError
from zagreus.evaluation.items import read_table
from zagreus.evaluation.shots import SubjectTask

HARNESS = Path(lm_eval.tasks.__file__).parent
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")

# lm-eval compiles a prompt's template anew for every example before every question: 95 % of the 63 s that MMLU's prompts took.
lm_eval.utils.env.from_string = lru_cache(maxsize=256)(lm_eval.utils.env.from_string)  # type: ignore[method-assign]


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a task file of lm-eval.

    `include:` may name one of lm-eval's own files, relative to its folder of tasks: the prompts are then the harness's, and the
    task file says only what differs.

    Raises:
        InputError: there is no such file, or it is no task file.
    """
    try:
        recipe = load_yaml(path, recursive=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such task file") from None
    except (yaml.YAMLError, ValueError, ImportError, AttributeError) as error:
        raise InputError(f"{path}: not a task file of lm-eval ({' '.join(str(error).split())})") from None
    included = recipe.pop("include", None)
    if included is not None:
        candidates = [folder / included for folder in (path.parent, HARNESS) if (folder / included).is_file()]
        if not candidates:
            raise InputError(f"{path}: includes '{included}', which is neither beside it nor a task file of lm-eval")
        recipe = {**load_yaml(candidates[0]), **recipe}
    if "output_type" not in recipe:
        raise InputError(f"{path}: no key 'output_type', not a task file of lm-eval")
    return recipe


def read_splits(path: Path) -> dict[str, pyarrow.Table]:
    """Return the items of a data set by split; raise `InputError` when the file is no parquet, has no `split`, or is empty."""
    read_table(path, ("id", "split"))
    table = pyarrow.parquet.read_table(path)
    if not table.num_rows:
        raise InputError(f"{path}: no items, expected at least one")
    names = table.column("split").unique().to_pylist()
    return {name: table.filter(pyarrow.compute.equal(table.column("split"), name)) for name in names}


def build_task(name: str, recipe: Mapping[str, Any], splits: Mapping[str, pyarrow.Table], shots: int, where: str) -> ConfigurableTask:
    """Return an lm-eval task over the items.

    The items are handed over in memory: the library `datasets` would otherwise look them up in a cache that goes by a file's time
    and not by its content.

    Args:
        name: of the task in the results.
        recipe: as read by `read_recipe`.
        splits: items by split; every split that the recipe names must be there.
        shots: examples before the question.
        where: the data file, for messages.

    Raises:
        InputError: a split or a column that the recipe needs is missing.
    """
    for key in SPLITS:
        if recipe.get(key) and recipe[key] not in splits:
            raise InputError(f"{where}: no split '{recipe[key]}', which task '{name}' names as {key}; it has {', '.join(splits)}")
    if shots and not (recipe.get("fewshot_split") or recipe.get("training_split")):
        raise InputError(f"task '{name}': {shots} shots, but its task file names no fewshot_split or training_split")
    dataset = {split: datasets.Dataset(table) for split, table in splits.items()}
    config = {key: value for key, value in recipe.items() if key not in ("tag", "group", "dataset_path", "dataset_name", "dataset_kwargs")}
    metadata = config.pop("metadata", {})
    config |= {"task": name, "num_fewshot": shots, "custom_dataset": lambda **_: dataset, "metadata": {"version": metadata.get("version")}}
    kind = SubjectTask if metadata.get("examples") == "subject" else ConfigurableTask
    with _missing_column(name, where, splits):
        if shots:
            _check_shots(name, recipe, splits, shots, where)
        return kind(config=config)


def _check_shots(name: str, recipe: Mapping[str, Any], splits: Mapping[str, pyarrow.Table], shots: int, where: str) -> None:
    """Raise `InputError` where there are fewer examples than a question is asked after."""
    split = recipe.get("fewshot_split") or recipe["training_split"]
    found = {"": splits[split].num_rows}
    if recipe.get("metadata", {}).get("examples") == "subject":
        counts = Counter(splits[split].column("subject").to_pylist())
        found = {f" of the subject '{subject}'": counts[subject] for subject in splits[recipe["test_split"]].column("subject").to_pylist()}
    for of, count in found.items():
        if count < shots:
            raise InputError(f"{where}: task '{name}' takes {shots} shots, but its split '{split}' has {count}{of}")


@contextlib.contextmanager
def _missing_column(name: str, where: str, splits: Mapping[str, pyarrow.Table]) -> Iterator[None]:
    """Turn the ways in which lm-eval stumbles over a column that is not there into one line."""
    try:
        yield
    except (KeyError, AttributeError, jinja2.UndefinedError) as error:
        columns = ", ".join(next(iter(splits.values())).column_names)
        raise InputError(f"{where}: task '{name}' needs what it does not have ({error}); its columns are {columns}") from None
