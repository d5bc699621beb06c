"""The configuration in its long form: an entry for each language.

An entry whose name holds a placeholder stands for an entry for each language. `belebele_{iso1}`
becomes `belebele_it`, `belebele_es`, ... The placeholders in its values are filled in too.

- `{iso3}`: ISO 639-3 (`ita`). `{iso1}`: ISO 639-1 (`it`). `{name}`: the English name (`Italian`).
  `{fineweb2}`: FineWeb-2's name (`ita_Latn`).
- An entry of its own wins over an entry with a placeholder.
- A source comes into being where a mixture, the tokenizer or evaluation data names it.
- Evaluation data come into being for each language under `languages` that a model is evaluated on.
- A task comes into being for each language of its data, and for each of its `prompts`.

The long form itself is read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zagreus.config.yaml_file import read_mapping
from zagreus.data.hub_layout import REVISION, converted_files
from zagreus.errors import InputError
from zagreus.languages import CODE, find_language

PLACEHOLDER = re.compile(r"\{(\w*)\}")
LANGUAGE_KEYS = ("iso3", "iso1", "name", "fineweb2")
# Under `languages`: every other language that a model is evaluated on.
OTHERS = "others"
Config = Mapping[str, Any]
Entry = Mapping[str, Any]


def long_form(config: Config, file: str) -> dict[str, Any]:
    """Return a configuration in its long form; the long form itself unchanged.

    Sections that are not what they should be stay, for the schema to refuse.

    Args:
        config: a configuration, not checked yet.
        file: its name, for the messages.

    Raises:
        InputError: an unknown placeholder or language, or an entry that cannot be filled in.
    """
    sections = ("sources", "evaluation_data", "evaluations", "models", "baselines", "tokenizer")
    if not all(isinstance(config.get(section), Mapping) for section in sections):
        return dict(config)
    try:
        data, languages = _evaluation_data(config)
        return dict(config) | {
            "sources": _sources(config, data),
            "evaluation_data": data,
            "evaluations": {
                suite: _suite(suite, entry, languages)
                for suite, entry in config["evaluations"].items()
            },
        }
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def read_config(file: Path | str) -> dict[str, Any]:
    """Return the configuration in a file, in its long form.

    Raises:
        InputError: no YAML mapping, or an entry that cannot be filled in.
    """
    return long_form(read_mapping(file), str(file))


def _languages(config: Config) -> list[str]:
    """Return the languages that models are evaluated on, in the order of the models."""
    models = [*config["models"].values(), *config["baselines"].values()]
    listed = [model.get("languages") for model in models if isinstance(model, Mapping)]
    codes = [code for codes in listed if isinstance(codes, list) for code in codes]
    return list(dict.fromkeys(code for code in codes if isinstance(code, str)))


def _values(code: str, key: str) -> dict[str, str]:
    """Return the value of each placeholder for a language.

    Raises:
        InputError: no language has the code.
    """
    if code == CODE:
        return dict.fromkeys(LANGUAGE_KEYS, CODE)
    try:
        language = find_language(code)
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
    names = (language.code, language.two, language.name, language.fineweb2)
    return dict(zip(LANGUAGE_KEYS, names))


def _fill(value: Any, values: Mapping[str, str], key: str) -> Any:
    """Return a value with the placeholders in its texts filled in.

    Raises:
        InputError: an unknown placeholder, or a placeholder without a value for the language.
    """
    if isinstance(value, Mapping):
        return {name: _fill(inner, values, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, values, key) for inner in value]
    if not isinstance(value, str):
        return value
    for name in PLACEHOLDER.findall(value):
        known = ", ".join(f"{{{name}}}" for name in values)
        if name not in values:
            raise InputError(f"{key}: unknown placeholder '{{{name}}}', expected one of {known}")
        if not values[name]:
            raise InputError(f"{key}: {values['name']} has no {{{name}}}, expected one of {known}")
    return PLACEHOLDER.sub(lambda match: values[match[1]], value)


def _evaluation_data(config: Config) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the long form of the section, and the languages of each entry with a placeholder."""
    used = _languages(config)
    data: dict[str, Any] = {}
    languages: dict[str, list[str]] = {}
    for name, entry in config["evaluation_data"].items():
        key = f"evaluation_data.{name}"
        if not isinstance(entry, Mapping):
            data[name] = entry
            continue
        if not PLACEHOLDER.search(name):
            if "languages" in entry:
                raise InputError(
                    f"{key}: found `languages`, expected {{iso1}} or {{iso3}} in the name of the "
                    "entry, or one `language`"
                )
            data[name] = _hub_entry(entry, key)
            continue
        differences = _differences(entry.get("languages", [OTHERS]), used, key)
        languages[name] = []
        common = {inner: value for inner, value in entry.items() if inner != "languages"}
        for code, difference in differences.items():
            values = _values(code, f"{key}.languages")
            filled = _fill(common | dict(difference), values, key) | {"language": code}
            own = _fill(name, values, key)
            if own in config["evaluation_data"]:  # an entry of its own
                continue
            if own in data:
                raise InputError(f"{key}: {own!r} stands there twice")
            data[own] = _hub_entry(filled, key)
            languages[name].append(code)
    return data, languages


def _differences(value: Any, used: Sequence[str], key: str) -> dict[str, Entry]:
    """Return what differs in each language of an entry that a model is evaluated on."""
    listed = dict.fromkeys(value, {}) if isinstance(value, list) else value
    if not isinstance(listed, Mapping) or not all(
        isinstance(difference, Mapping) for difference in listed.values()
    ):
        raise InputError(
            f"{key}.languages: expected a list of languages, or a mapping from a language to the "
            "keys that differ"
        )
    differences: dict[str, Entry] = {}
    for code, difference in listed.items():
        if code == OTHERS:
            differences |= {other: difference for other in used if other not in listed}
        elif code in (*used, CODE):
            differences[code] = difference
        else:
            _values(code, f"{key}.languages")  # an unknown language is an error, used or not
    return differences


def _hub_entry(entry: Entry, key: str) -> Entry:
    """Return an entry of the hub's parquet conversion with its kind, revision and files.

    `splits` stands for the files; an entry without it stays.
    """
    if "splits" not in entry:
        return entry
    splits = entry["splits"]
    names = list(splits.values()) if isinstance(splits, Mapping) else splits
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or "files" in entry
    ):
        raise InputError(f"{key}.splits: expected the names of splits, and no `files` beside them")
    rest = {name: value for name, value in entry.items() if name != "splits"}
    defaults = {"kind": "huggingface", "revision": REVISION}
    return defaults | rest | {"files": converted_files(splits)}


def _suite(suite: str, entry: Any, languages: Mapping[str, Sequence[str]]) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("tasks"), list):
        return entry
    tasks: list[Any] = []
    for index, task in enumerate(entry["tasks"]):
        key = f"evaluations.{suite}.tasks.{index}"
        tasks += [
            prompted for filled in _task(task, languages, key) for prompted in _prompts(filled, key)
        ]
    return dict(entry) | {"tasks": tasks}


def _task(task: Any, languages: Mapping[str, Sequence[str]], key: str) -> Iterator[Any]:
    """Yield a task for each language of its data.

    Every model takes the task of code, and the tasks of `languages`: all of them, or a list.
    """
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, str):
        yield task
        return
    task = {"name": f"{data}_{{prompt}}" if "prompts" in task else data, "num_fewshot": 0} | task
    if not PLACEHOLDER.search(data):
        yield task
        return
    if data not in languages:
        raise InputError(
            f"{key}.data: found {data!r}, expected an entry of evaluation_data: "
            f"{', '.join(sorted(languages))}"
        )
    if not any(f"{{{name}}}" in str(task.get("name")) for name in ("iso1", "iso3")):
        raise InputError(f"{key}.name: found {task.get('name')!r}, expected {{iso1}} or {{iso3}}")
    for_all = task.get("languages", "own")
    for code in languages[data]:
        values = _values(code, key) | {"prompt": "{prompt}"}
        filled = {
            name: _fill(value, values, f"{key}.{name}")
            for name, value in task.items()
            if name != "languages" or isinstance(value, str)
        }
        if code == CODE or (isinstance(for_all, list) and code in for_all):
            filled["languages"] = "all"
        yield filled


def _prompts(task: Any, key: str) -> Iterator[Any]:
    """Yield a task for each of its prompts, numbered from 1; the task itself without any."""
    if not isinstance(task, Mapping) or "prompts" not in task:
        yield task
        return
    count = task["prompts"]
    if type(count) is not int or count < 1 or "{prompt}" not in str(task.get("name")):
        raise InputError(f"{key}.prompts: expected how many there are, and {{prompt}} in the name")
    rest = {name: value for name, value in task.items() if name != "prompts"}
    for number in range(1, count + 1):
        yield _fill(rest, {"prompt": str(number)}, key)


def _sources(config: Config, data: Config) -> dict[str, Any]:
    """Return the long form of the section: each source that is named has an entry.

    Those that an entry with a placeholder stands for take the place of the first such entry.
    """
    entries: Mapping[str, Any] = config["sources"]
    patterns = {name: entry for name, entry in entries.items() if PLACEHOLDER.search(name)}
    generated: dict[str, Any] = {}
    for name in _named_sources(config, data):
        for pattern, entry in patterns.items():
            code = _language_of(pattern, name)
            if code and name not in entries and name not in generated:
                key = f"sources.{pattern}"
                filled = _fill(entry, _values(code, f"{key}: {name}"), key)
                generated[name] = filled | {"language": code} if filled else filled
    sources: dict[str, Any] = {}
    for name, entry in entries.items():
        sources |= generated if name in patterns else {name: entry}
    return sources


def _language_of(pattern: str, name: str) -> str | None:
    """Return the language for which an entry has a name; None for a name of another entry."""
    if PLACEHOLDER.findall(pattern) != ["iso3"]:
        raise InputError(f"sources.{pattern}: expected one placeholder in the name, {{iso3}}")
    before, after = pattern.split("{iso3}")
    match = re.fullmatch(f"{re.escape(before)}([a-z]{{3}}){re.escape(after)}", name)
    return match[1] if match else None


def _named_sources(config: Config, data: Config) -> Iterator[str]:
    """Yield the sources that models, the tokenizer and evaluation data name."""
    lists = [
        model["pretrain"].get("mixture", ())
        for model in config["models"].values()
        if isinstance(model, Mapping) and isinstance(model.get("pretrain"), Mapping)
    ]
    lists.append(config["tokenizer"].get("sources", ()))
    lists += [entry.get("sources", ()) for entry in data.values() if isinstance(entry, Mapping)]
    for names in lists:
        if isinstance(names, list | Mapping):
            yield from (name for name in names if isinstance(name, str))
