"""The configuration, checked whole before anything runs.

First against the schema, then what refers to what.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

from zagreus.config.checkpoints import last_checkpoints
from zagreus.config.ladder import ladder_problems
from zagreus.config.long_form import long_form
from zagreus.config.problems import raise_all
from zagreus.config.publication import check_publication
from zagreus.config.start_checks import start_problems
from zagreus.config.teachers import check_teacher
from zagreus.config.yaml_file import check_finite
from zagreus.errors import InputError
from zagreus.export.plan import check_exports
from zagreus.posttraining.sets import names_of
from zagreus.posttraining.templates import template_of
from zagreus.recipe.read import check_mixture, check_steps, parsed_recipe

Check = Callable[[], None]
SCHEMA = Path(__file__).parents[2] / "config" / "schema.yaml"
# Characters of a wrong value that a message shows.
LONGEST = 100
# JSON schema takes 1.0 for an integer. Here a count is a count: what is made of one (a range, a
# file's name) does not take 1.0.
_COUNTS = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: type(value) is int
)
_VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_COUNTS)


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Check a configuration.

    Args:
        config: the whole configuration, in its long form or not (zagreus/config/long_form.py).
        name: its file, for the messages.

    Raises:
        InputError: all that is wrong, in one line, each thing with its place in the file. What does
            not fit the schema comes first, as the rest cannot be read without it.
    """
    try:
        check_finite(plain(config), "")
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    config = long_form(config, name)
    raise_all(_schema_problems(config), name)
    problems = [problem for check in _checks(config) if (problem := _problem(check))]
    problems += start_problems(config)
    if not problems:  # the rungs are made from the model's recipe, which is whole now
        problems += ladder_problems(config)
    raise_all(problems, name)


def plain(value: Any) -> Any:
    """Return a configuration as mappings and lists of Python's own kinds.

    Snakemake has kinds of its own.
    """
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def _checks(config: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a check for each thing that can be wrong, so that one does not hide another."""
    for source in config["sources"]:
        yield partial(_check_source, config, source)
    for source in config["tokenizer"].get("sources", ()):
        yield partial(_known, source, config["sources"], "tokenizer.sources", "source")
    for model in config["models"]:
        yield from _model_checks(config, model)
    for name, data in config["evaluation_data"].items():
        for source in data.get("sources", ()):
            yield partial(
                _known, source, config["sources"], f"evaluation_data.{name}.sources", "source"
            )
        for chat in data.get("chat", ()):
            yield partial(_known, chat, config["chat"], f"evaluation_data.{name}.chat", "chat data")
    for suite, evaluation in config["evaluations"].items():
        for index, task in enumerate(evaluation["tasks"]):
            where = f"evaluations.{suite}.tasks.{index}"
            yield partial(
                _known, task["data"], config["evaluation_data"], f"{where}.data", "evaluation data"
            )
            yield partial(_file, task["recipe"], f"{where}.recipe")
    near = config.get("contamination", {}).get("near_duplicates", {}).get("texts", ())
    for text in near:
        known = [*config["sources"], *config["chat"]]
        where = "contamination.near_duplicates.texts"
        yield partial(_known, text, known, where, "source or chat data")
    yield partial(_check_portable, config)
    if "exports" in config:
        yield partial(check_exports, config, last_checkpoints(config))
    yield partial(check_publication, config)
    for node in config.get("adopt", {}):
        yield partial(_check_adopted, config, node)


def _check_portable(config: Mapping[str, Any]) -> None:
    if config.get("portable") and config["torch"] != "cpu":
        raise InputError(
            f"portable: true with torch: {config['torch']}, expected torch: cpu (sums on GPUs have "
            "no fixed order)"
        )


def _problem(check: Check) -> str | None:
    try:
        check()
    except InputError as error:
        return str(error)
    return None


@cache
def _schema() -> Any:
    """Return the validator of the schema; our own file, so the fast loader."""
    return _VALIDATOR(yaml.load(SCHEMA.read_text(encoding="utf-8"), yaml.CSafeLoader))


def _schema_problems(config: Mapping[str, Any]) -> list[str]:
    """Return what does not fit the schema, in the order of the places in the file."""
    errors = [cause for error in _schema().iter_errors(config) for cause in _narrow(error)]
    errors.sort(key=lambda error: list(map(str, error.absolute_path)))
    return [line for error in errors for line in _lines(error)]


def _lines(error: jsonschema.ValidationError) -> Iterator[str]:
    """Yield what is wrong by one error of the schema.

    A line for each unknown key, else one line.
    """
    where = ".".join(map(str, error.absolute_path)) or "the top level"
    if error.validator == "additionalProperties" and isinstance(error.schema, Mapping):
        known = list(error.schema.get("properties", ()))
        for key in cast(Mapping[str, Any], error.instance):
            if key not in known:
                yield f"{where}: unknown key {key!r}{_meant(key, known)}"
        return
    # The message begins with the whole value, which can be a mapping of a hundred lines.
    value = repr(error.instance)
    if error.instance is None and error.message.startswith(value):
        yield f"{where}: null{error.message.removeprefix(value)}"
        return
    if len(value) > LONGEST and error.message.startswith(value):
        kinds = ((Mapping, "a mapping"), (list, "a list"))
        short = next(
            (name for kind, name in kinds if isinstance(error.instance, kind)),
            f"{value[:LONGEST]}...",
        )
        yield f"{where}: {short}{error.message.removeprefix(value)}"
    else:
        yield f"{where}: {error.message}"


def _narrow(error: jsonschema.ValidationError) -> list[jsonschema.ValidationError]:
    """Return the causes of a failed `oneOf`.

    The errors within the branch whose `kind` (or whose shape) was meant.
    """
    if not error.context:
        return [error]
    branches: dict[int, list[jsonschema.ValidationError]] = {}
    for cause in error.context:
        branches.setdefault(int(cause.schema_path[0]), []).append(cause)

    shapes = cast(Mapping[str, Any], error.schema)["oneOf"]
    kinds = [
        shape["properties"]["kind"]["const"]
        for shape in shapes
        if "kind" in shape.get("properties", ())
    ]
    if kinds and isinstance(error.instance, Mapping) and error.instance.get("kind") not in kinds:
        error.context = []
        error.message = (
            f"kind is {error.instance.get('kind')!r}, expected one of {', '.join(kinds)}"
        )
        return [error]
    if kinds or not isinstance(error.instance, Mapping):
        chosen = min(branches.values(), key=_distance)
    else:
        # Without a kind, the keys that are there say which shape was meant; a misspelt one is among
        # few.
        known = {
            index: len(error.instance.keys() & shapes[index].get("properties", {}).keys())
            for index in branches
        }
        chosen = max(branches.items(), key=lambda branch: (known[branch[0]], -len(branch[1])))[1]
    # An unknown key says more than the keys that its misspelling leaves missing.
    unknown = {
        tuple(cause.absolute_path) for cause in chosen if cause.validator == "additionalProperties"
    }
    said = [
        cause
        for cause in chosen
        if cause.validator != "required" or tuple(cause.absolute_path) not in unknown
    ]
    return [narrow for cause in said for narrow in _narrow(cause)]


def _distance(causes: Iterable[jsonschema.ValidationError]) -> tuple[bool, int]:
    """Return how far a value is from a shape.

    Another kind is further than any number of wrong keys.
    """
    causes = list(causes)
    return any(cause.validator == "const" for cause in causes), len(causes)


def _check_source(config: Mapping[str, Any], name: str) -> None:
    source = config["sources"][name]
    clean, where = source.get("clean", {}), f"sources.{name}.clean"
    if source["kind"] != "package" and ("text_column" in source) == ("questions" in source):
        said = "both" if "questions" in source else "neither"
        raise InputError(f"sources.{name}: found {said}, expected text_column or questions")
    form = source.get("questions", {})
    if form and not isinstance(form.get("choices"), list) and "answer" not in form:
        raise InputError(f"sources.{name}.questions: no answer, expected the column of the answer")
    if "language" in clean and source["language"] == "code":
        raise InputError(f"{where}.language: the source is code, which has no language to keep")
    if clean.get("deduplicate") == "url" and "id_column" not in source:
        raise InputError(
            f"{where}.deduplicate: url compares the documents' names, and the source has no "
            "id_column that gives them"
        )


def _model_checks(config: Mapping[str, Any], name: str) -> Iterator[Check]:
    model, where = config["models"][name], f"models.{name}"
    spoken = {source["language"] for source in config["sources"].values()}
    for language in model["languages"]:
        yield partial(_known, language, spoken, f"{where}.languages", "language")
    yield partial(_check_name, config, name)
    if "pretrain" in model:
        pretrain = model["pretrain"]
        for source in pretrain["mixture"]:
            yield partial(_known, source, config["sources"], f"{where}.pretrain.mixture", "source")
        yield partial(_check_shares, pretrain["mixture"], f"{where}.pretrain")
        yield partial(_check_recipe, pretrain, f"{where}.pretrain")
        yield partial(_check_origin, config, name, f"{where}.pretrain.from")
        return
    yield partial(_check_base, config, name, f"{where}.from")
    yield partial(_check_stage_names, model["posttrain"], f"{where}.posttrain")
    for index, stage in enumerate(model["posttrain"]):
        for chat in names_of(stage):
            yield partial(
                _known, chat, config["chat"], f"{where}.posttrain.{index}.data", "chat data"
            )
        template = template_of(stage)
        if template:
            yield partial(_file, str(template.file), f"{where}.posttrain.{index}.template")
        yield partial(_file, stage["recipe"], f"{where}.posttrain.{index}.recipe")
        yield partial(check_teacher, config, name, index)


def _check_name(config: Mapping[str, Any], name: str) -> None:
    if name in config["baselines"]:
        raise InputError(f"models.{name}: a baseline has the same name")


def _check_stage_names(posttrain: Sequence[Mapping[str, Any]], where: str) -> None:
    stages = [stage["stage"] for stage in posttrain]
    if len(set(stages)) < len(stages):
        raise InputError(f"{where}: stage {max(stages, key=stages.count)!r} stands there twice")


def _check_base(config: Mapping[str, Any], name: str, where: str) -> None:
    """Raise `InputError` where a post-trained model starts from no model or from itself."""
    seen, ancestor = [name], config["models"][name]["from"]
    _known(ancestor, config["models"], where, "model")
    while "from" in config["models"].get(ancestor, {}):
        if ancestor in seen:
            raise InputError(f"{where}: the models {', '.join(seen)} start from one another")
        seen.append(ancestor)
        ancestor = config["models"][ancestor]["from"]


def _check_origin(config: Mapping[str, Any], name: str, where: str) -> None:
    """Raise `InputError` where a base model continues what is no base model, or at last itself."""
    seen = [name]
    origin = config["models"][name]["pretrain"].get("from")
    while isinstance(origin, str):
        _known(origin, config["models"], where, "model")
        if "pretrain" not in config["models"][origin]:
            raise InputError(f"{where}: {origin!r} is no base model")
        if origin in seen:
            raise InputError(f"{where}: the models {', '.join(seen)} start from one another")
        seen.append(origin)
        origin = config["models"][origin]["pretrain"].get("from")


def _check_shares(mixture: Mapping[str, float], where: str) -> None:
    try:
        check_mixture(mixture)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_recipe(pretrain: Mapping[str, Any], where: str) -> None:
    _file(pretrain["recipe"], f"{where}.recipe")
    recipe = parsed_recipe(pretrain["recipe"])
    try:
        check_steps(recipe, pretrain["checkpoints"])
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _check_adopted(config: Mapping[str, Any], node: str) -> None:
    """Raise `InputError` where an adopted artifact has no place among those that the configuration
    makes.
    """
    where, entry = f"adopt.{node}", config["adopt"][node]
    stage, name, *rest = node.split("/")
    if stage != "models" and "folder" not in entry:
        raise InputError(f"{where}: found a repository of the data hub, expected a folder")
    if stage == "tokens":
        _known(name, config["sources"], where, "source")
        return
    _known(name, config["models"], where, "model")
    model = config["models"][name]
    if stage == "pretrain" and "pretrain" not in model:
        raise InputError(f"{where}: {name!r} is no base model")
    made = (
        model["pretrain"]["checkpoints"]
        if "pretrain" in model
        else [stage["stage"] for stage in model["posttrain"]]
    )
    _known(rest[0], map(str, made), where, "checkpoint")


def _known(name: str, known: Iterable[str], where: str, what: str) -> None:
    known = list(known)
    if name not in known:
        raise InputError(f"{where}: unknown {what} {name!r}{_meant(name, known)}")


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {close[0]!r}?"
        if close
        else f"; expected one of {', '.join(sorted(known))}"
    )


def _file(path: str, where: str) -> None:
    if not os.path.isfile(path):
        shown = path if len(path) <= LONGEST else f"{path[:LONGEST]}..."
        raise InputError(f"{where}: no such file {shown!r}")
