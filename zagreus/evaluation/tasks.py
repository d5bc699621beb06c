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

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.evaluation.fewshot import SubjectTask
from zagreus.evaluation.files import MAX_LOST_ROWS
from zagreus.evaluation.items import read_table
from zagreus.evaluation.lengths import LengthTask
from zagreus.evaluation.scorable import MissingColumn, Scorable, check_share, scorable

HARNESS = Path(lm_eval.tasks.__file__).parent
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")

# lm-eval compiles a prompt's template anew for every example before every question: 95 % of the 63
# s that MMLU's prompts took.
lm_eval.utils.env.from_string = lru_cache(maxsize=256)(lm_eval.utils.env.from_string)  # type: ignore[method-assign]


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a task file of lm-eval.

    `include:` may name one of lm-eval's own files, relative to its folder of tasks: the prompts are
    then the harness's, and the task file says only what differs.

    Raises:
        InputError: there is no such file, or it is no task file.
    """
    if path.exists():
        # Of two equal keys lm-eval takes the last one, and does not say where a slip is.
        read_mapping(path, task=True)
    try:
        recipe = load_yaml(path, recursive=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such task file") from None
    except (yaml.YAMLError, ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"{path}: not a task file of lm-eval ({' '.join(str(error).split())})"
        ) from None
    included = recipe.pop("include", None)
    if included is not None:
        candidates = [
            folder / included for folder in (path.parent, HARNESS) if (folder / included).is_file()
        ]
        if not candidates:
            raise InputError(
                f"{path}: includes '{included}', which is neither beside it nor a task file of "
                "lm-eval"
            )
        recipe = {**load_yaml(candidates[0]), **recipe}
    if "output_type" not in recipe:
        raise InputError(f"{path}: no key 'output_type', not a task file of lm-eval")
    return recipe


def read_splits(path: Path) -> dict[str, pyarrow.Table]:
    """Return the items of a data set by split.

    Raise `InputError` when the file is no parquet, has no `split`, or is empty.
    """
    read_table(path, ("id", "split"))
    table = pyarrow.parquet.read_table(path)
    if not table.num_rows:
        raise InputError(f"{path}: no items, expected at least one")
    names = table.column("split").unique().to_pylist()
    return {
        name: table.filter(pyarrow.compute.equal(table.column("split"), name)) for name in names
    }


EXAMPLES = ("fewshot_split", "training_split")
Splits = dict[str, pyarrow.Table]


def set_aside(
    name: str,
    recipe: Mapping[str, Any],
    splits: Splits,
    num_fewshot: int,
    where: str,
    limit: float | None,
) -> tuple[dict[str, Any], Splits, Scorable]:
    """Return (task file, splits, what is scored) without the items and examples that the task
    cannot use.

    A task without few-shot examples does not read examples: the split is left out of its task file.

    Args:
        name: of the task.
        recipe: as read by `read_recipe`.
        splits: items by split.
        num_fewshot: few-shot examples before the question.
        where: the data file, for messages.
        limit: share of the items that may be set aside; None for the default.

    Raises:
        InputError: a split or column is missing, or more items are set aside than the limit.
    """
    _check_splits(name, recipe, splits, num_fewshot, where)
    tested = recipe.get("test_split") or recipe.get("validation_split")
    if tested is None:
        raise InputError(f"task '{name}': its task file names no test_split or validation_split")
    kept, recipe = dict(splits), dict(recipe)
    tested_rows = _scorable(name, recipe, splits[tested], True, where, limit)
    kept[tested] = tested_rows.table
    if recipe.get("test_split"):
        recipe["validation_split"] = None
    examples = next((recipe[key] for key in EXAMPLES if recipe.get(key)), None)
    if not num_fewshot:
        recipe |= dict.fromkeys(EXAMPLES)
    elif examples == tested:
        return recipe, kept, tested_rows
    elif examples is not None:
        usable = _scorable(name, recipe, splits[examples], False, where, limit)
        kept[examples] = usable.table
        tested_rows.set_aside.update(
            {f"example: {reason}": count for reason, count in usable.set_aside.items()}
        )
    return recipe, kept, tested_rows


def _scorable(
    name: str,
    recipe: Mapping[str, Any],
    table: pyarrow.Table,
    scored: bool,
    where: str,
    limit: float | None,
) -> Scorable:
    config = {**_config(recipe), "task": name}
    room = int((MAX_LOST_ROWS if limit is None else limit) * table.num_rows)
    try:
        usable = scorable(config, table, scored, room)
    except MissingColumn as error:
        columns = ", ".join(table.column_names)
        raise InputError(
            f"{where}: task '{name}' needs what it does not have ({error}); its columns are "
            f"{columns}"
        ) from None
    check_share(name, where, usable, table.num_rows, limit)
    return usable


def _config(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a task file is lm-eval's configuration of a task."""
    dropped = ("tag", "group", "dataset_path", "dataset_name", "dataset_kwargs", "metadata")
    return {key: value for key, value in recipe.items() if key not in dropped}


def build_task(
    name: str,
    recipe: Mapping[str, Any],
    splits: Mapping[str, pyarrow.Table],
    num_fewshot: int,
    where: str,
) -> ConfigurableTask:
    """Return an lm-eval task over the items.

    The items are handed over in memory: the library `datasets` would otherwise look them up in a
    cache that goes by a file's time and not by its content.

    Args:
        name: of the task in the results.
        recipe: as read by `read_recipe`.
        splits: items by split; every split that the recipe names must be there.
        num_fewshot: few-shot examples before the question.
        where: the data file, for messages.

    Raises:
        InputError: a split or a column that the recipe needs is missing.
    """
    _check_splits(name, recipe, splits, num_fewshot, where)
    dataset = {split: datasets.Dataset(table) for split, table in splits.items()}
    metadata = recipe.get("metadata") or {}
    config = _config(recipe)
    config |= {
        "task": name,
        "num_fewshot": num_fewshot,
        "custom_dataset": lambda **_: dataset,
        "metadata": {"version": metadata.get("version")},
    }
    kind = (
        SubjectTask
        if metadata.get("examples") == "subject"
        else LengthTask
        if metadata.get("length") == "max_tokens"
        else ConfigurableTask
    )
    with _missing_column(name, where, splits):
        if num_fewshot:
            _check_fewshot(name, recipe, splits, num_fewshot, where)
        return kind(config=config)


def _check_splits(
    name: str,
    recipe: Mapping[str, Any],
    splits: Mapping[str, pyarrow.Table],
    num_fewshot: int,
    where: str,
) -> None:
    """Raise `InputError` where the data lack a split that the task file names, or the task file one
    of examples.
    """
    for key in SPLITS:
        if recipe.get(key) and recipe[key] not in splits:
            raise InputError(
                f"{where}: no split '{recipe[key]}', which task '{name}' names as {key}; it has "
                f"{', '.join(splits)}"
            )
    if num_fewshot and not (recipe.get("fewshot_split") or recipe.get("training_split")):
        raise InputError(
            f"task '{name}': {num_fewshot} few-shot examples, but its task file names no "
            "fewshot_split or training_split"
        )


def _check_fewshot(
    name: str,
    recipe: Mapping[str, Any],
    splits: Mapping[str, pyarrow.Table],
    num_fewshot: int,
    where: str,
) -> None:
    """Raise `InputError` where there are fewer examples than a question is asked after."""
    split = recipe.get("fewshot_split") or recipe["training_split"]
    available = {"": splits[split].num_rows}
    if recipe.get("metadata", {}).get("examples") == "subject":
        counts = Counter(splits[split].column("subject").to_pylist())
        available = {
            f" of the subject '{subject}'": counts[subject]
            for subject in splits[recipe["test_split"]].column("subject").to_pylist()
        }
    for of, count in available.items():
        if count < num_fewshot:
            raise InputError(
                f"{where}: task '{name}' takes {num_fewshot} few-shot examples, but its split "
                f"'{split}' has {count}{of}"
            )


@contextlib.contextmanager
def _missing_column(name: str, where: str, splits: Mapping[str, pyarrow.Table]) -> Iterator[None]:
    """Turn the ways in which lm-eval stumbles over a column that is not there into one line."""
    try:
        yield
    except (KeyError, AttributeError, jinja2.UndefinedError) as error:
        columns = ", ".join(next(iter(splits.values())).column_names)
        raise InputError(
            f"{where}: task '{name}' needs what it does not have ({error}); its columns are "
            f"{columns}"
        ) from None
