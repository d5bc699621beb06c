"""Recipes in Axolotl's schema: read, checked key by key, filled in.

Axolotl drops a key that it does not know without a word, even with `strict: true`. Here an unknown
key is an error that names it.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ValidationError

from zagreus.errors import InputError
from zagreus.posttraining.attention import available
from zagreus.posttraining.capabilities import has_gpu, machine_capabilities
from zagreus.posttraining.chatml import TEMPLATE
from zagreus.posttraining.recipe_file import load_recipe, processes_of, share_batch
from zagreus.posttraining.templates import ChatTemplate

__all__ = [
    "check_recipe",
    "fill_in",
    "for_this_image",
    "load_recipe",
    "processes_of",
    "share_batch",
]

# Keys of the published recipe that Axolotl once knew. It drops them today; what they asked for is
# the default, or is gone.
RETIRED = {
    "fsdp_config.fsdp_sharding_strategy": "FULL_SHARD is what FSDP does unless told otherwise",
    # torch's FSDP has BACKWARD_PRE as its default; transformers always passes NO_PREFETCH, and
    # Axolotl's schema has no key for it. Losses are the same, a step is a little slower.
    "fsdp_config.fsdp_backward_prefetch_policy": (
        "transformers prefetches nothing here (NO_PREFETCH)"
    ),
}
REPORT_PLUGIN = "zagreus.posttraining.plugin.ReportPlugin"
# The cosine schedule's own keys do nothing under another schedule; the published recipe has them
# with `lr_scheduler: constant`.
ONLY_WITH_COSINE = ("cosine_constant_lr_ratio", "cosine_min_lr_ratio")


def for_this_image(
    recipe: Mapping[str, Any],
    where: str,
    gpu: bool | None = None,
    packages: Collection[str] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the recipe with what this image and machine can do, and a note on each difference.

    Without a GPU `fsdp_config` goes: FSDP refuses to run there. Fp32 masters, which it gives, are
    the weights themselves then: `bf16: auto`, for which Axolotl takes fp16 there, becomes fp32. On
    a GPU both stay, for one process too (zagreus/posttraining/training.py).

    Do not modernise a recipe to `fsdp_version: 2`: with accelerate 1.13 its fp32 masters are
    silently bf16 (accelerate#3979).

    Args:
        gpu: whether the training has GPUs; None looks.
        packages: names of the packages in the image; None looks.

    Raises:
        InputError: an attention whose package is missing.
    """
    gpu = has_gpu() if gpu is None else gpu
    if packages is None:
        packages = {
            distribution.name.lower().replace("_", "-")
            for distribution in importlib.metadata.distributions()
        }
    changed, note = available(recipe, packages, where)
    notes = [note] if note else []
    if not gpu and ("fsdp_config" in changed or changed.get("fsdp")):
        changed = {key: value for key, value in changed.items() if not key.startswith("fsdp")}
        notes.append("fsdp_config: left out, FSDP needs a GPU")
    if not gpu and changed.get("bf16") == "auto" and not changed.get("fp16"):
        changed |= {"bf16": False, "fp16": False}
        notes.append(
            "bf16: auto: fp32 on a CPU (Axolotl itself takes fp16 there, without fp32 masters)"
        )
    return changed, notes


def fill_in(
    recipe: Mapping[str, Any],
    base: Path,
    data: Path,
    folder: Path,
    template: ChatTemplate | None = None,
) -> dict[str, Any]:
    """Return the recipe with what the run decides.

    Base model, data file, folders, chat template, resuming, report.

    Args:
        recipe: as read; not changed.
        base: Hugging Face folder of the model to start from.
        data: JSON lines of chat rows.
        folder: working folder; prepared data and rolling checkpoints go beneath it.
        template: the chat template that the data is tokenized or rendered with already; None where
            Axolotl renders ChatML.
    """
    datasets = [{**dataset, "path": str(data)} for dataset in recipe["datasets"]]
    text = TEMPLATE
    if template:
        datasets = [{"path": str(data), "ds_type": "json", "type": None}]
        text = template.file.read_text(encoding="utf-8")
    return {
        **recipe,
        "base_model": str(base),
        "chat_template_jinja": text,
        "datasets": datasets,
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "checkpoints"),
        "auto_resume_from_checkpoints": True,
        "plugins": [*recipe.get("plugins", ()), REPORT_PLUGIN],
    }


def check_recipe(
    recipe: Mapping[str, Any], where: str, capabilities: Mapping[str, Any] | None = None
) -> list[str]:
    """Check a filled-in recipe against Axolotl's own schema, and return notes on keys that are
    accepted but have no effect.

    Args:
        recipe: the recipe, filled in.
        where: its name, for messages.
        capabilities: of the machine, as Axolotl describes them (`bf16`, `fp8`, `tf32`, `n_gpu`,
            `compute_capability`); None takes this machine's.

    Raises:
        InputError: a key that Axolotl does not know, or a value that it refuses.
    """
    # Imported here: the environment must have been prepared first, and reading a recipe needs
    # neither.
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.config import AxolotlInputConfig

    notes = []
    for key, known in _unknown_keys(recipe, [AxolotlInputConfig]):
        if key in RETIRED:
            notes.append(f"{key}: Axolotl ignores it; {RETIRED[key]}")
            continue
        near = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, 1)
        raise InputError(
            f"{where}: unknown key '{key}'"
            + (f", did you mean '{near[0]}'?" if near else " in Axolotl's schema")
        )
    if recipe.get("lr_scheduler") != "cosine":
        notes += [
            f"{key}: has no effect with lr_scheduler '{recipe.get('lr_scheduler')}'"
            for key in ONLY_WITH_COSINE
            if key in recipe
        ]
    known_here = dict(machine_capabilities() if capabilities is None else capabilities)
    environment = {"torch_version": importlib.metadata.version("torch").split("+")[0]}
    try:
        validate_config(DictDefault(recipe), capabilities=known_here, env_capabilities=environment)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}: Axolotl refuses {path or 'the recipe'}: {' '.join(first['msg'].split())}"
        ) from None
    except (ValueError, TypeError, AttributeError, ImportError, DeprecationWarning) as error:
        raise InputError(
            f"{where}: Axolotl refuses the recipe: {' '.join(str(error).split())}"
        ) from None
    return notes


def _unknown_keys(
    value: Any, annotations: list[Any], prefix: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Yield (path of the key, keys known at that place) for each key of `value` that none of the
    pydantic types has.

    Where the schema allows several models, or any mapping at all, a key that one of them has is
    known.
    """
    models, free, items = _any_of(annotations)
    if isinstance(value, Mapping) and models and not free:
        fields: dict[str, list[Any]] = {}
        for model in models:
            for name, field in model.model_fields.items():
                for spelling in _spellings(name, field):
                    fields.setdefault(spelling, []).append(field.annotation)
        for key, inner in value.items():
            plain = str(key).removeprefix("fsdp_") if prefix == "fsdp_config." else str(key)
            inner_types = fields.get(str(key)) or fields.get(plain)
            if inner_types is None:
                yield f"{prefix}{key}", sorted(fields)
                continue
            yield from _unknown_keys(inner, inner_types, f"{prefix}{key}.")
    elif isinstance(value, list) and items:
        for index, inner in enumerate(value):
            yield from _unknown_keys(inner, items, f"{prefix.removesuffix('.')}[{index}].")


def _spellings(name: str, field: Any) -> set[str]:
    spellings = {name}
    for alias in (field.alias, field.validation_alias):
        if isinstance(alias, str):
            spellings.add(alias)
        elif isinstance(alias, AliasChoices):
            spellings.update(choice for choice in alias.choices if isinstance(choice, str))
    return spellings


def _shapes(annotation: Any) -> tuple[list[type[BaseModel]], bool, list[Any]]:
    """Return (models that a mapping may be, whether it may be any mapping, types of a list's items)
    of a type annotation.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], False, []
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _shapes(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _any_of(arguments)
    if origin is list:
        return [], False, list(arguments)
    return [], annotation is Any or annotation is dict or origin is dict, []


def _any_of(annotations: Iterable[Any]) -> tuple[list[type[BaseModel]], bool, list[Any]]:
    parts = [_shapes(annotation) for annotation in annotations]
    return (
        [model for part in parts for model in part[0]],
        any(part[1] for part in parts),
        [item for part in parts for item in part[2]],
    )
