"""What a dry-run can know: names that collide, folders that are missing or would be written over, numbers that do not fit together.

Every function yields one line for each problem, so that a user sees all of them at once. Standard library and recipes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zagreus.cost import parameters
from zagreus.data.chat.form import form_of_chat
from zagreus.errors import InputError
from zagreus.nanotron import Recipe
from zagreus.reader_options import filter_problems, reader_problems
from zagreus.recipe import read_recipe

ROOT = Path(__file__).resolve().parent.parent
# Every rule writes these paths into a shell line, and Snakemake reads braces in them.
FOLDER_NAME = re.compile(r"[\w/.+=,@:-]+")
LONGEST_NAME = 64  # characters; file systems take 255 bytes for a name, and ours have a suffix
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Folders of the repository that a run must not write into; whatever else lies there is looked up.
KEPT_FOLDERS = {".git", ".tools", ".github", ".ci", "slurm"}
# Names below the results folder that stand for something else.
RESERVED_SOURCES = {"chat"}
# Bytes of a parameter in training: the least that any recipe needs, weights and two moments in bfloat16 without a gradient.
LEAST_BYTES = 6
# No node of any cluster has more memory than this, in bytes.
LARGEST_MEMORY = 64e12


def start_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield every problem of a configuration that the schema does not see; each is one line with its place."""
    yield from folder_problems(config["pathvars"])
    yield from _names(config)
    yield from _missing_folders(config)
    yield from _options(config)
    yield from _task_problems(config)
    yield from _evaluation_data(config)
    for name, model in config["models"].items():
        if "pretrain" in model:
            yield from _pretrain(config, name, model["pretrain"])
        else:
            yield from _posttrain(config, name, model)


def folder_problems(pathvars: Mapping[str, str]) -> Iterator[str]:
    """Yield which of a run's folders would write over something, or over one another."""
    here = Path.cwd().resolve()
    kept = KEPT_FOLDERS | {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    kept -= {"results", "resources", "logs", "benchmarks", "node_modules"}
    places = {}
    for name, folder in pathvars.items():
        where = f"pathvars.{name}"
        if folder.startswith("~"):
            yield f"{where}: found '{folder}', in which ~ is a folder's name; write the whole path"
            continue
        if not folder.strip() or not FOLDER_NAME.fullmatch(folder):
            yield f"{where}: found {folder!r}, expected the path of a folder in letters, digits, '/', '.', '_', '-', '+', '=', ',', '@' and ':'"
            continue
        place = (here / folder).resolve()
        inside = place.relative_to(here).parts[:1] if place.is_relative_to(here) else ()
        if here.is_relative_to(place) or place in (Path.home(), Path("/")):
            yield f"{where}: found '{folder}', which holds the repository or a home; expected a folder of the run's own, such as results/demo"
        elif inside and inside[0] in kept:
            yield f"{where}: found '{folder}', which lies in the code's folder '{inside[0]}'; expected one outside, such as results/demo"
        elif place.exists() and not place.is_dir():
            yield f"{where}: found '{folder}', which is a file; expected a folder"
        elif folder.startswith("..") or "/../" in folder:
            yield f"{where}: found '{folder}', which leads out of the repository; write the whole path where that is meant"
        places[name] = place
    for one, other in (
        ("results", "resources"),
        ("logs", "results"),
        ("benchmarks", "results"),
        ("logs", "benchmarks"),
        ("logs", "resources"),
    ):
        if one in places and other in places and places[one] == places[other]:
            yield f"pathvars.{one}: found the same folder as pathvars.{other}; each has one of its own"
    if {"results", "resources"} <= places.keys() and places["results"] != places["resources"]:
        for inner, outer in (("results", "resources"), ("resources", "results")):
            if places[inner].is_relative_to(places[outer]):
                yield f"pathvars.{inner}: found a folder within pathvars.{outer}; removing the one would remove the other"


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield names that stand for something else as well: a rule, a target, a file or a folder of the repository."""
    rules = rule_names()
    for section in ("models", "baselines", "sources", "chat", "evaluation_data", "evaluations"):
        for name in config[section]:
            if len(name) > LONGEST_NAME:
                yield f"{section}.{name[:20]}...: a name of {len(name)} characters, expected at most {LONGEST_NAME}"
    for section in ("models", "baselines"):
        for name in config[section]:
            if name in rules:
                yield f"{section}.{name}: a rule or a target of the workflow has this name; expected another"
            elif len(name) <= LONGEST_NAME and (ROOT / name).exists():
                yield f"{section}.{name}: a file or folder of the repository has this name; expected another"
    for name in config["sources"]:
        if name in RESERVED_SOURCES:
            yield f"sources.{name}: the folder of conversations has this name; expected another"


@cache
def rule_names() -> set[str]:
    """Return the names of the rules and of the sub-commands of bin/zagreus."""
    files = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
    named = {
        found for file in files for found in re.findall(r"^(?:rule|checkpoint) (\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    from zagreus.platform.commands import COMMANDS

    return named | set(COMMANDS)


def _missing_folders(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folders and files of this machine that an entry names and that are not there."""
    for place, path, folder in local_paths(config):
        if not path.exists():
            yield f"{place}: no such {'folder' if folder else 'file'} '{path}'"
        elif folder and not path.is_dir():
            yield f"{place}: '{path}' is a file, expected a folder"
        elif not folder and path.is_dir():
            yield f"{place}: '{path}' is a folder, expected a file"


def local_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, Path, bool]]:
    """Yield what a configuration names on this machine: the key's place, the path, and whether a folder is expected."""
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
                yield from reader_problems(entry["reader"], entry.get("options", {}), f"{section}.{name}.options")
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
                yield f"{where}.name: found {shown!r}, expected letters, digits, '_', '.' and '-', at most {LONGEST_NAME} of them"
                continue
            if name in seen:
                yield f"{where}.name: '{name}' stands in this suite twice"
            seen.add(name)
            what = (task["data"], task["recipe"], task["shots"])
            if name in known and known[name][1] != what:
                yield f"{where}.name: '{name}' is in {known[name][0]} with another data set, recipe or number of shots; expected another name"
            known.setdefault(name, (f"evaluations.{suite}", what))
            yield from _shots(config, task, where)


def _shots(config: Mapping[str, Any], task: Mapping[str, Any], where: str) -> Iterator[str]:
    data = config["evaluation_data"].get(task["data"])
    if data is None or not task["shots"]:
        return
    if data["kind"] in ("heldout", "choice", "instructions"):
        yield f"{where}.shots: found {task['shots']}, data of kind {data['kind']} has no examples; expected 0"
    elif "examples" in data and task["shots"] > len(data["examples"]["ids"]):
        yield f"{where}.shots: found {task['shots']}, evaluation_data.{task['data']}.examples has {len(data['examples']['ids'])}"


def _evaluation_data(config: Mapping[str, Any]) -> Iterator[str]:
    for name, data in config["evaluation_data"].items():
        where, sources = f"evaluation_data.{name}", config["sources"]
        for source in data.get("sources", ()):
            if source in sources and sources[source]["heldout"] == 0:
                yield f"{where}.sources: '{source}' has heldout 0, so there is no text to ask about; expected a share above 0"
        if data.get("form") == "translation" and len(data["sources"]) != 2:
            yield f"{where}.sources: found {len(data['sources'])}, a translation has two: the text's and its translation's"
        for chat in data.get("chat", ()):
            if chat in config["chat"] and not config["chat"][chat].get("heldout", 0):
                yield f"{where}.chat: '{chat}' has no heldout share, so there is nothing to ask; expected a share above 0"


@cache
def _recipe(path: str) -> Recipe:
    """Return a pre-training recipe; read once, as many models share one."""
    return read_recipe(Path(path))


def _pretrain(config: Mapping[str, Any], name: str, pretrain: Mapping[str, Any]) -> Iterator[str]:
    where = f"models.{name}.pretrain"
    try:
        recipe = _recipe(pretrain["recipe"])
    except InputError:
        return  # said by check_config
    cluster = config["cluster"]
    ranks = cluster["nodes"] * cluster["ranks_per_node"]
    if recipe.global_batch_size % ranks:
        yield (
            f"{where}: {ranks} ranks (cluster.nodes x cluster.ranks_per_node) cannot share the {recipe.global_batch_size} sequences of a step "
            f"of {pretrain['recipe']} evenly"
        )
    yield from _size(config, recipe, where)


def _size(config: Mapping[str, Any], recipe: Recipe, where: str) -> Iterator[str]:
    """Yield a model that no memory holds."""
    shape = recipe.model.model_config
    vocabulary = config["tokenizer"].get("vocab_size", 1) if shape.vocab_size < 0 else shape.vocab_size
    multiple = recipe.model.make_vocab_size_divisible_by
    count = parameters(shape, -(-vocabulary // multiple) * multiple)
    limit = config["cluster"].get("memory_mb_per_node", LARGEST_MEMORY / 1e6) * 1e6
    if count * LEAST_BYTES > limit:
        yield (
            f"{where}.recipe: a model of {count / 1e9:,.1f} billion parameters needs {count * LEAST_BYTES / 1e9:,.0f} GB at the least, "
            f"a node has {limit / 1e9:,.0f} GB"
        )


def _posttrain(config: Mapping[str, Any], name: str, model: Mapping[str, Any]) -> Iterator[str]:
    stages = [stage["stage"] for stage in model["posttrain"]]
    origin = config["models"].get(model["from"], {})
    if stages[0] == "dpo" and "pretrain" in origin:
        yield f"models.{name}.posttrain.0: dpo comes first, on a base model that has learned no answers; expected sft before it"
    if "sft" in stages and "dpo" in stages and stages.index("dpo") < stages.index("sft"):
        yield f"models.{name}.posttrain: dpo stands before sft; expected sft first"
    for index, stage in enumerate(model["posttrain"]):
        where, entry = f"models.{name}.posttrain.{index}", config["chat"].get(stage["data"])
        if entry is None:
            continue  # said by check_config
        form = form_of_chat(entry)
        if form and form != stage["stage"]:
            kinds = {"sft": "conversations, for sft", "dpo": "preferences, for dpo"}
            yield f"{where}.data: '{stage['data']}' makes {kinds[form]}; the stage is {stage['stage']}"
