"""What a dry-run can know.

Names that collide, folders that are missing or would be written over, numbers that do not fit
together.

Every function yields one line for each problem, so that a user sees all of them at once. Standard
library and recipes only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zagreus.config.reader_options import filter_problems, reader_problems
from zagreus.config.stages import stage_problems
from zagreus.config.yaml_file import read_mapping
from zagreus.data.chat.form import form_of_chat
from zagreus.data.parquet_files import find_parquet
from zagreus.errors import InputError
from zagreus.posttraining.sets import names_of
from zagreus.recipe.memory import size_problems
from zagreus.recipe.read import parsed_recipe

ROOT = Path(__file__).resolve().parents[2]
# Every rule writes these paths into a shell line, and Snakemake reads braces in them.
FOLDER_NAME = re.compile(r"[\w/.+=@-]+")
LONGEST_NAME = 64  # characters; file systems take 255 bytes for a name, and ours have a suffix
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# What the repository holds, git's and Snakemake's own folders and the tools of `make setup`.
REPOSITORY = {
    ".ci",
    ".git",
    ".github",
    ".gitignore",
    ".snakemake",
    ".snakemake-workflow-catalog.yml",
    ".tools",
}
REPOSITORY |= {
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "Snakefile",
}
REPOSITORY |= {
    "bin",
    "config",
    "config.yaml",
    "containers",
    "docs",
    "envs",
    "profiles",
    "pyproject.toml",
    "recipes",
}
REPOSITORY |= {"reference", "rules", "scripts", "slurm", "tests", "zagreus"}
# Folders of a run that the shipped configurations name.
RUN_FOLDERS = {"results", "resources", "logs", "benchmarks"}
# Folders of an operating system: no run's own, and some hide what an image has there.
SYSTEM = {"/bin", "/boot", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"}
SYSTEM_ROOTS = {"/dev", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var"}
# Folders that rules write beneath the results; some of them are emptied first.
ARTIFACTS = [
    "sources",
    "clean",
    "chat",
    "evaluation_data",
    "tokenizer",
    "tokens",
    "tokens_heldout",
    "pretrain",
    "models",
]
ARTIFACTS += [
    "posttrain",
    "evaluate",
    "samples",
    "exports",
    "ladder",
    "contamination",
    "near_duplicates",
    "tables",
    "figures",
    "ro-crate",
]
ARTIFACTS += ["published", "tracking"]
# Names below the results folder that stand for something else.
RESERVED_SOURCES = {"chat"}


def start_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield every problem of a configuration that the schema does not see.

    Each is one line with its place.
    """
    yield from folder_problems(config["pathvars"])
    yield from _names(config)
    yield from _missing_folders(config)
    yield from _options(config)
    yield from _task_problems(config)
    yield from _evaluation_data(config)
    yield from stage_problems(config, Path(config["pathvars"]["results"]))
    for name, model in config["models"].items():
        if "pretrain" in model:
            yield from _pretrain(config, name, model["pretrain"])
        else:
            yield from _posttrain(config, name, model)


def folder_problems(pathvars: Mapping[str, str]) -> Iterator[str]:
    """Yield which of a run's folders would write over something, or over one another."""
    here, places = Path.cwd().resolve(), dict[str, Path]()
    for name, folder in pathvars.items():
        problem = _folder_problem(folder, here)
        if problem:
            yield f"pathvars.{name}: found {folder!r}, {problem}"
        else:
            places[name] = (here / folder).resolve()
    same = [
        ("results", "resources"),
        ("logs", "results"),
        ("benchmarks", "results"),
        ("logs", "benchmarks"),
    ]
    for one, other in [*same, ("logs", "resources"), ("benchmarks", "resources")]:
        if one in places and other in places and places[one] == places[other]:
            yield (
                f"pathvars.{one}: found the same folder as pathvars.{other}; each has one of "
                "its own"
            )
    if {"results", "resources"} <= places.keys() and places["results"] != places["resources"]:
        for inner, outer in (("results", "resources"), ("resources", "results")):
            if places[inner].is_relative_to(places[outer]):
                yield (
                    f"pathvars.{inner}: found a folder within pathvars.{outer}; removing the "
                    "one would remove the other"
                )
    for name in ("logs", "benchmarks"):
        if (
            name in places
            and "results" in places
            and places[name].is_relative_to(places["results"])
        ):
            first = [*places[name].relative_to(places["results"]).parts, ""][0]
            if first in ARTIFACTS:
                yield (
                    f"pathvars.{name}: found a folder within {first} of pathvars.results, "
                    "which a rule writes; expected another"
                )


def _folder_problem(folder: str, here: Path) -> str | None:
    """Return what is wrong with one folder of a run; None where nothing is."""
    if folder.startswith("~"):
        return "in which ~ is a folder's name; write the whole path"
    if not FOLDER_NAME.fullmatch(folder):
        return (
            "expected the path of a folder in letters, digits, '/', '.', '_', '-', '+', '=' and '@'"
        )
    resolved, written = (here / folder).resolve(), Path(os.path.normpath(here / folder))
    if here.is_relative_to(resolved) or resolved in (Path.home(), Path("/")):
        return (
            "which holds the repository or a home; expected a folder of the run's own, such "
            "as results/demo"
        )
    # As it is written and where links lead; a folder of tests sees the code through links.
    for root, path in ((here, written), (here, resolved), (ROOT, resolved)):
        first = path.relative_to(root).parts[:1] if path.is_relative_to(root) else ()
        if first and first[0] in REPOSITORY:
            return (
                f"which lies in the code's folder '{first[0]}'; expected one outside, such "
                "as results/demo"
            )
    if str(resolved) in SYSTEM_ROOTS or any(resolved.is_relative_to(system) for system in SYSTEM):
        return "which is the system's; expected a folder of the run's own"
    if ".." in Path(folder).parts:
        return "which leads out of the repository; write the whole path where that is meant"
    for parent in (written, *written.parents):
        if os.path.islink(parent) and not os.path.exists(parent):
            return (
                f"and '{parent}' is a link to '{os.readlink(parent)}', which is not there; "
                "is its disk mounted?"
            )
        if os.path.exists(parent):
            return None if os.path.isdir(parent) else f"and '{parent}' is a file; expected a folder"
    return None


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield names that stand for something else as well.

    A rule, a target, a file or a folder of the repository.
    """
    rules = rule_names()
    kept = (
        REPOSITORY
        | RUN_FOLDERS
        | {part for folder in config["pathvars"].values() for part in Path(folder).parts[:1]}
    )
    for section in ("models", "baselines", "sources", "chat", "evaluation_data", "evaluations"):
        for name in config[section]:
            if len(name) > LONGEST_NAME:
                yield (
                    f"{section}.{name[:20]}...: a name of {len(name)} characters, expected "
                    f"at most {LONGEST_NAME}"
                )
    for section in ("models", "baselines"):
        for name in config[section]:
            if name in rules:
                yield (
                    f"{section}.{name}: a rule or a target of the workflow has this name; "
                    "expected another"
                )
            elif name in kept:
                yield (
                    f"{section}.{name}: a file or folder of the repository has this name; "
                    "expected another"
                )
    for name in config["sources"]:
        if name in RESERVED_SOURCES:
            yield f"sources.{name}: the folder of conversations has this name; expected another"


@cache
def rule_names() -> set[str]:
    """Return the names of the rules and of the sub-commands of bin/zagreus."""
    from zagreus.platform.commands import COMMANDS

    return {name for name, _ in _rules()} | set(COMMANDS)


def patterns() -> set[str]:
    """Return the names of the rules that make many files, by wildcards.

    Such a rule has them in the name of its log.
    """
    return {
        name
        for name, text in _rules()
        if re.search(r'^    log:\n        ".*\{', text, re.MULTILINE)
    }


@cache
def _rules() -> list[tuple[str, str]]:
    """Return the name and the text of every rule."""
    files = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
    block = re.compile(r"^(?:rule|checkpoint) (\w+):\n((?:    .*\n|\n)*)", re.MULTILINE)
    return [
        (name, text)
        for file in files
        for name, text in block.findall(file.read_text(encoding="utf-8"))
    ]


def _missing_folders(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folders and files of this machine that an entry names and that are not there, or
    are not what is expected. (Path's own
    questions are errors for a name that is too long.)"""
    for key, path, folder in local_paths(config):
        if not os.path.exists(path):
            home = "; ~ is not expanded, write the whole path" if str(path).startswith("~") else ""
            yield f"{key}: no such {'folder' if folder else 'file'} '{path}'{home}"
        elif folder and not os.path.isdir(path):
            yield f"{key}: '{path}' is a file, expected a folder"
        elif not folder and os.path.isdir(path):
            yield f"{key}: '{path}' is a folder, expected a file"
        elif not path.resolve().is_relative_to(Path.cwd().resolve()) and re.search(
            "[:,]", str(path.resolve())
        ):
            yield (
                f"{key}: '{path}' has a ':' or a ',' in its path, with which no image can "
                "be given a folder"
            )
        else:
            yield from _unlike(config, key, path)


def _unlike(config: Mapping[str, Any], key: str, path: Path) -> Iterator[str]:
    """Yield what a folder lacks that a source or the tokenizer reads."""
    if key.startswith("sources."):
        try:
            if not find_parquet(path).files:
                yield f"{key}: no parquet file in '{path}'"
        except InputError as error:
            yield f"{key}: {error}"
    if key == "tokenizer.folder":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (path / name).is_file():
                yield f"{key}: no {name} in '{path}'"


def local_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, Path, bool]]:
    """Yield what a configuration names on this machine.

    The key's place, the path, and whether a folder is expected.
    """
    entries = {"tokenizer": config["tokenizer"]}
    for section in ("sources", "chat", "baselines", "evaluation_data"):
        entries |= {f"{section}.{name}": entry for name, entry in config[section].items()}
    for where, entry in entries.items():
        if entry["kind"] == "local":
            key = "folder" if "folder" in entry else "path"
            yield f"{where}.{key}", Path(entry[key]), key == "folder"
    for name, model in config["models"].items():
        origin = model.get("pretrain", {}).get("from")
        if isinstance(origin, Mapping):
            yield f"models.{name}.pretrain.from.folder", Path(origin["folder"]), True
    for node, entry in config.get("adopt", {}).items():
        if "folder" in entry:
            yield f"adopt.{node}.folder", Path(entry["folder"]), True


def _options(config: Mapping[str, Any]) -> Iterator[str]:
    for section in ("sources", "chat"):
        for name, entry in config[section].items():
            if "reader" in entry:
                yield from reader_problems(
                    entry["reader"], entry.get("options", {}), f"{section}.{name}.options"
                )
    for name, source in config["sources"].items():
        for quality, options in source.get("clean", {}).get("quality", {}).items():
            yield from filter_problems(quality, options, f"sources.{name}.clean.quality.{quality}")


def _task_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield tasks without a usable name, twice in a suite, or with one name for two things."""
    known: dict[str, tuple[str, Any]] = {}
    for suite, evaluation in config["evaluations"].items():
        seen = set()
        for index, task in enumerate(evaluation["tasks"]):
            where, name = f"evaluations.{suite}.tasks.{index}", task["name"]
            if not TASK_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
                shown = name if len(name) <= 40 else f"{name[:40]}..."
                yield (
                    f"{where}.name: found {shown!r}, expected letters, digits, '_', '.' and "
                    f"'-', at most {LONGEST_NAME} of them"
                )
                continue
            if name in seen:
                yield f"{where}.name: '{name}' stands in this suite twice"
            seen.add(name)
            what = (task["data"], task["recipe"], task["num_fewshot"])
            if name in known and known[name][1] != what:
                yield (
                    f"{where}.name: '{name}' is in {known[name][0]} with another data set, "
                    "recipe or `num_fewshot`; expected another name"
                )
            known.setdefault(name, (f"evaluations.{suite}", what))
            yield from _num_fewshot(config, task, where)


def _num_fewshot(config: Mapping[str, Any], task: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield examples before the question that there are not, and splits that the data lack."""
    data, num_fewshot = config["evaluation_data"].get(task["data"]), task["num_fewshot"]
    if data is None or not os.path.isfile(task["recipe"]):
        return  # said by check_config
    if num_fewshot and data["kind"] in ("heldout", "needle", "choice", "instructions", "agentic"):
        yield (
            f"{where}.num_fewshot: found {num_fewshot}, data of kind {data['kind']} has no "
            "examples; expected 0"
        )
        return
    try:
        recipe = read_task_file(task["recipe"], Path(task["recipe"]).stat().st_mtime_ns)
    except InputError as error:
        yield f"{where}.recipe: {error}"
        return
    if "include" not in recipe and "output_type" not in recipe:
        yield f"{where}.recipe: {task['recipe']}: no key 'output_type', not a task file of lm-eval"
        return
    splits = {*data["files"], *(["dev"] if "examples" in data else [])} if "files" in data else None
    drawn = ("fewshot_split", "training_split") if num_fewshot else ()
    for key in ("test_split", *drawn):
        name = recipe.get(key)
        if splits and name and name not in splits:
            files = ", ".join(sorted(splits))
            yield (
                f"{where}: {task['recipe']} names the {key} '{name}', "
                f"evaluation_data.{task['data']}.files has {files}"
            )
    from_dev = (recipe.get("fewshot_split") or recipe.get("training_split")) == "dev"
    if num_fewshot and "include" not in recipe and not any(recipe.get(key) for key in drawn):
        yield (
            f"{where}.num_fewshot: found {num_fewshot}, {task['recipe']} names no fewshot_split "
            "and no training_split; expected 0"
        )
    elif "examples" in data and from_dev and num_fewshot > len(data["examples"]["ids"]):
        yield (
            f"{where}.num_fewshot: found {num_fewshot}, "
            f"evaluation_data.{task['data']}.examples has {len(data['examples']['ids'])}"
        )


@cache
def read_task_file(path: str, changed: int) -> dict[str, Any]:
    """Return what a task file of lm-eval says itself; what it includes is read by the job.

    Read once, as suites share them, unless it
    changed."""
    return read_mapping(path, task=True)


def _evaluation_data(config: Mapping[str, Any]) -> Iterator[str]:
    for name, data in config["evaluation_data"].items():
        where, sources = f"evaluation_data.{name}", config["sources"]
        for source in data.get("sources", ()):
            if source in sources and sources[source]["heldout"] == 0:
                yield (
                    f"{where}.sources: '{source}' has heldout 0, so there is no text to ask "
                    "about; expected a share above 0"
                )
        if data.get("form") == "translation" and len(data["sources"]) != 2:
            yield (
                f"{where}.sources: found {len(data['sources'])}, a translation has two: the "
                "text's and its translation's"
            )
        for chat in data.get("chat", ()):
            if chat in config["chat"] and not config["chat"][chat].get("heldout", 0):
                yield (
                    f"{where}.chat: '{chat}' has no heldout share, so there is nothing to "
                    "ask; expected a share above 0"
                )


def _pretrain(config: Mapping[str, Any], name: str, pretrain: Mapping[str, Any]) -> Iterator[str]:
    where = f"models.{name}.pretrain"
    try:
        recipe = parsed_recipe(pretrain["recipe"])
    except (InputError, OSError, ValueError):  # ValueError: a NUL in the name
        return  # said by check_config
    cluster = config["cluster"]
    ranks = cluster["nodes"] * cluster["ranks_per_node"]
    if recipe.global_batch_size % ranks:
        yield (
            f"{where}: {ranks} ranks (cluster.nodes x cluster.ranks_per_node) cannot share the "
            f"{recipe.global_batch_size} sequences of a step of {pretrain['recipe']} evenly"
        )
    yield from size_problems(config, recipe, f"{where}.recipe")


def _posttrain(config: Mapping[str, Any], name: str, model: Mapping[str, Any]) -> Iterator[str]:
    stages = [stage["stage"] for stage in model["posttrain"]]
    origin = config["models"].get(model["from"], {})
    if stages[0] == "dpo" and "pretrain" in origin:
        yield (
            f"models.{name}.posttrain.0: dpo comes first, on a base model that has learned "
            "no answers; expected sft before it"
        )
    if "sft" in stages and "dpo" in stages and stages.index("dpo") < stages.index("sft"):
        yield f"models.{name}.posttrain: dpo stands before sft; expected sft first"
    for index, stage in enumerate(model["posttrain"]):
        where = f"models.{name}.posttrain.{index}"
        yield from _template_problems(config, model, index, where)
        for chat in names_of(stage):
            entry = config["chat"].get(chat)
            form = form_of_chat(entry) if entry else None  # an unknown set: said by check_config
            if form and form != {"distill": "sft"}.get(stage["stage"], stage["stage"]):
                kinds = {"sft": "conversations, for sft", "dpo": "preferences, for dpo"}
                yield f"{where}.data: '{chat}' makes {kinds[form]}; the stage is {stage['stage']}"


def _template_problems(
    config: Mapping[str, Any], model: Mapping[str, Any], index: int, where: str
) -> Iterator[str]:
    """Yield why a stage cannot be trained with its chat template."""
    stage = model["posttrain"][index]
    before = [model]
    while (origin := config["models"].get(before[-1].get("from"))) and origin not in before:
        before.append(origin)
    earlier = [*model["posttrain"][:index][::-1]]
    for ancestor in before[1:]:
        earlier += ancestor.get("posttrain", ())[::-1]
    trained = next((other for other in earlier if other["stage"] != "dpo"), None)
    own = stage.get("template", "chatml")
    follows = stage["stage"] in ("dpo", "distill")
    if follows and trained and trained.get("template", "chatml") != own:
        yield (
            f"{where}: {stage['stage']} has template {own!r}, and the {trained['stage']} before it "
            f"has {trained.get('template', 'chatml')!r}; expected the same one"
        )
