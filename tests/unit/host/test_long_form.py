"""Entries that stand for several languages, and what is refused of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.shipped import CONFIGS
from zagreus.config.check import check_config
from zagreus.config.long_form import long_form, read_config
from zagreus.errors import InputError

ROOT = Path(__file__).parents[3]
HUB = {"repo": "owner/name", "splits": ["test"]}


def small(**sections: Any) -> dict[str, Any]:
    """A configuration with the sections that the long form is made from."""
    models = {
        "ita": {"languages": ["eng", "ita"], "pretrain": {"mixture": {"web_ita": 1.0}}},
        "fra": {"languages": ["eng", "fra"], "pretrain": {"mixture": {"web_fra": 1.0}}},
    }
    empty: dict[str, Any] = {"sources": {}, "evaluation_data": {}, "evaluations": {}}
    rest = {"models": models, "baselines": {}, "tokenizer": {}}
    return empty | rest | sections


@pytest.mark.parametrize("name", CONFIGS)
def test_the_long_form_stays(name: str) -> None:
    """The long form of the long form is the same, and it is right by itself."""
    config = read_config(ROOT / name)
    assert long_form(config, name) == config
    check_config(config, name)
    assert "{" not in "".join([*config["sources"], *config["evaluation_data"]])


def test_one_entry_for_each_benchmark() -> None:
    """config.yaml names a repository of the hub, with its subset of splits, once."""
    loaded = yaml.safe_load((ROOT / "config.yaml").read_text())
    entries = [
        yaml.safe_dump({key: value for key, value in entry.items() if key != "language"})
        for entry in loaded["evaluation_data"].values()
    ]
    assert len(set(entries)) == len(entries)


def test_config_yaml_reads_like_a_document() -> None:
    lines = (ROOT / "config.yaml").read_text().splitlines()
    assert len(lines) <= 400 and max(map(len, lines)) <= 100


# Entry of evaluation_data, and the data sets that it stands for.
DATA: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "every language of a model": (
        {"own_{iso3}": {"kind": "heldout", "sources": ["web_{iso3}"]}},
        {
            f"own_{code}": {"kind": "heldout", "sources": [f"web_{code}"], "language": code}
            for code in ("eng", "ita", "fra")
        },
    ),
    "a list, of which no model speaks German": (
        {"b_{iso1}": {"kind": "x", "n": "{name} {fineweb2}", "languages": ["deu", "fra"]}},
        {"b_fr": {"kind": "x", "n": "French fra_Latn", "language": "fra"}},
    ),
    "a mapping with what differs, others, and code": (
        {
            "h_{iso3}": {
                "kind": "x",
                "sources": ["web_{iso3}"],
                "languages": {
                    "ita": {"sources": ["a", "b"]},
                    "others": {"limit": 3},
                    "code": {"sources": ["c"]},
                },
            }
        },
        {
            "h_ita": {"kind": "x", "sources": ["a", "b"], "language": "ita"},
            "h_eng": {"kind": "x", "sources": ["web_eng"], "limit": 3, "language": "eng"},
            "h_fra": {"kind": "x", "sources": ["web_fra"], "limit": 3, "language": "fra"},
            "h_code": {"kind": "x", "sources": ["c"], "language": "code"},
        },
    ),
    "an entry of its own wins": (
        {"h_ita": {"kind": "own", "language": "ita"}, "h_{iso3}": {"languages": ["ita", "fra"]}},
        {"h_ita": {"kind": "own", "language": "ita"}, "h_fra": {"language": "fra"}},
    ),
    "splits of the hub's conversion": (
        {"b": HUB | {"language": "ita", "splits": {"dev": "train", "test": "sub/test"}}},
        {
            "b": {
                "kind": "huggingface",
                "revision": "refs/convert/parquet",
                "repo": "owner/name",
                "language": "ita",
                "files": {"dev": "default/train/0000.parquet", "test": "sub/test/0000.parquet"},
            }
        },
    ),
}


@pytest.mark.parametrize("case", DATA)
def test_evaluation_data(case: str) -> None:
    entries, expected = DATA[case]
    before = copy.deepcopy(entries)
    made = long_form(small(evaluation_data=entries), "config.yaml")["evaluation_data"]
    assert made == expected
    assert list(made) == list(expected), "in the order of the entry"
    assert entries == before, "the configuration itself stays"


def test_sources_are_made_where_they_are_named() -> None:
    """In the order of the models, in the place of the entry; unnamed languages have none."""
    config = small(
        sources={"a": {}, "web_{iso3}": {"files": "{fineweb2}/*"}, "pdf_{iso3}": {}, "z": {}},
        evaluation_data={"h_{iso3}": {"sources": ["pdf_{iso3}"], "languages": ["fra"]}},
    )
    config["tokenizer"] = {"sources": ["pdf_deu"]}
    sources = long_form(config, "config.yaml")["sources"]
    assert list(sources) == ["a", "web_ita", "web_fra", "pdf_deu", "pdf_fra", "z"]
    assert sources["web_fra"] == {"files": "fra_Latn/*", "language": "fra"}


def suite(*tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a suite in the long form."""
    data = {"b_{iso1}": {"languages": ["ita", "fra"]}, "h_{iso3}": {"languages": ["ita", "code"]}}
    evaluations = {"s": {"for": [], "tasks": list(tasks)}}
    config = long_form(small(evaluation_data=data, evaluations=evaluations), "config.yaml")
    made: list[dict[str, Any]] = config["evaluations"]["s"]["tasks"]
    return made


def test_tasks() -> None:
    recipe = {"recipe": "r.yaml"}
    assert suite({"data": "b_{iso1}"} | recipe, {"data": "own", "num_fewshot": 2} | recipe) == [
        {"name": "b_it", "num_fewshot": 0, "data": "b_it"} | recipe,
        {"name": "b_fr", "num_fewshot": 0, "data": "b_fr"} | recipe,
        {"name": "own", "num_fewshot": 2, "data": "own"} | recipe,
    ]
    # Every model takes the tasks of code, and of the languages that are listed.
    tasks = suite(
        {"data": "h_{iso3}"} | recipe, {"data": "b_{iso1}", "languages": ["fra"]} | recipe
    )
    assert {task["name"]: task.get("languages") for task in tasks} == {
        "h_ita": None,
        "h_code": "all",
        "b_it": None,
        "b_fr": "all",
    }
    prompted = suite({"data": "own", "recipe": "own_{prompt}.yaml", "prompts": 2})
    assert [(task["name"], task["recipe"]) for task in prompted] == [
        ("own_1", "own_1.yaml"),
        ("own_2", "own_2.yaml"),
    ]


def _task(**task: Any) -> dict[str, Any]:
    return {"evaluations": {"s": {"for": [], "tasks": [task]}}, "evaluation_data": {"h_{iso3}": {}}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown placeholder in a value": (
        {"evaluation_data": {"b_{iso3}": {"repo": "{lang}"}}},
        "evaluation_data.b_{iso3}.repo: unknown placeholder '{lang}', expected one of {iso3}, ",
    ),
    "unknown placeholder in the name": (
        {"evaluation_data": {"b_{language}": {}}},
        "evaluation_data.b_{language}: unknown placeholder '{language}', expected one of {iso3}, ",
    ),
    "unknown language": (
        {"evaluation_data": {"b_{iso1}": {"languages": ["german"]}}},
        "evaluation_data.b_{iso1}.languages: ",
    ),
    "the code of two letters": (
        {"evaluation_data": {"b_{iso1}": {"languages": ["it"]}}},
        "did you mean 'ita' (Italian)?",
    ),
    "no code of two letters": (
        {
            "evaluation_data": {"b_{iso1}": {"languages": ["nap"]}},
            "baselines": {"x": {"languages": ["nap"]}},
        },
        "Neapolitan has no {iso1}",
    ),
    "languages without a placeholder": (
        {"evaluation_data": {"b": {"languages": ["ita"]}}},
        "evaluation_data.b: found `languages`, expected {iso1} or {iso3} in the name of the entry",
    ),
    "languages that are text": (
        {"evaluation_data": {"b_{iso3}": {"languages": "ita"}}},
        "evaluation_data.b_{iso3}.languages: expected a list of languages, or a mapping",
    ),
    "two entries for one data set": (
        {"evaluation_data": {key: {"languages": ["code"]} for key in ("b_{iso1}", "b_{iso3}")}},
        "evaluation_data.b_{iso3}: 'b_code' stands there twice",
    ),
    "splits and files": (
        {"evaluation_data": {"b": HUB | {"files": {"test": "x"}}}},
        "evaluation_data.b.splits: expected the names of splits, and no `files` beside them",
    ),
    "a source with two placeholders": (
        {"sources": {"{iso1}_{iso3}": {}}},
        "sources.{iso1}_{iso3}: expected one placeholder in the name, {iso3}",
    ),
    "a source of no language": (
        {"sources": {"web_{iso3}": {}}, "tokenizer": {"sources": ["web_xyz"]}},
        "sources.web_{iso3}: web_xyz: ",
    ),
    "a task of unknown data": (
        _task(name="x_{iso3}", data="x_{iso3}"),
        "evaluations.s.tasks.0.data: found 'x_{iso3}', expected an entry of evaluation_data: h_{",
    ),
    "a task without a placeholder": (
        _task(name="heldout", data="h_{iso3}"),
        "evaluations.s.tasks.0.name: found 'heldout', expected {iso1} or {iso3}",
    ),
    "no number of prompts": (
        _task(data="own", prompts="six"),
        "evaluations.s.tasks.0.prompts: expected how many there are",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_says_what_is_wrong(case: str) -> None:
    sections, message = REFUSED[case]
    with pytest.raises(InputError) as raised:
        long_form(small(**sections), "config.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("config.yaml: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("section", ["sources", "evaluation_data", "evaluations", "models"])
@pytest.mark.parametrize("value", [None, [], "text", {"a": None}, {"a": {"tasks": [None, 3]}}])
def test_the_schema_refuses_the_rest(section: str, value: Any) -> None:
    """A section or an entry of another kind is left for the schema, which says what is wrong."""
    config = read_config(ROOT / "config/test.yaml") | {section: value}
    with pytest.raises(InputError, match=section):
        check_config(config, "config.yaml")
