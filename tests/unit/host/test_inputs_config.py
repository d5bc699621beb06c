"""Each wrong value of a configuration is said before anything runs, in one line, and all of them together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zagreus.config import SCHEMA, check_config
from zagreus.errors import InputError
from zagreus.yaml_file import parse_yaml, read_mapping, read_yaml

ROOT = Path(__file__).parents[3]
DEMO = read_yaml(ROOT / "config/demo.yaml")
CONFIGS = ["config.yaml", "config/demo.yaml", "config/small.yaml", "config/test.yaml"]


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the demo's configuration with one value replaced, or removed where the value is `...`."""
    config = copy.deepcopy(DEMO)
    *folders, key = place.split("/")
    inner: Any = config
    for folder in folders:
        inner = inner[int(folder)] if isinstance(inner, list) else inner[folder]
    if value is ...:
        del inner[int(key) if isinstance(inner, list) else key]
    else:
        inner[int(key) if isinstance(inner, list) else key] = value
    return config


def copied(section: str, source: str, name: str) -> dict[str, Any]:
    """Return the demo's configuration with an entry under a second name."""
    config = copy.deepcopy(DEMO)
    config[section][name] = config[section][source]
    return config


def message(config: dict[str, Any]) -> str:
    """Return what is said of a configuration; nothing where nothing is wrong."""
    try:
        check_config(config, "demo.yaml")
    except InputError as error:
        return str(error)
    return ""


LOCAL = {"language": "eng", "kind": "local", "folder": "/nowhere", "text_column": "text", "tasks": 1, "heldout": 0.1}
ROWS: list[tuple[str, Any, str]] = [
    # numbers
    ("models/ita/pretrain/mixture/eng_wiki", math.nan, "found nan, expected a finite number"),
    ("sources/eng_wiki/heldout", math.nan, "sources.eng_wiki.heldout: found nan"),
    ("sources/eng_wiki/heldout", 1, "sources.eng_wiki.heldout"),
    ("sources/eng_wiki/heldout", -0.1, "sources.eng_wiki.heldout"),
    ("plan/mfu", math.inf, "plan.mfu: found inf"),
    ("plan/max_cost", math.nan, "plan.max_cost: found nan"),
    ("sources/eng_wiki/tasks", 1.0, "sources.eng_wiki.tasks: 1.0 is not of type 'integer'"),
    ("sources/code_homeassistant/limit", 10.0, "limit: 10.0 is not of type 'integer'"),
    ("models/ita/pretrain/mixture", {"eng_wiki": 30, "ita_bible": 70}, "sum to 100, expected 1; shares are expected, not per cent"),
    ("models/ita/pretrain/mixture", {"eng_wiki": 0.5, "ita_bible": 0.499}, "sum to 0.999, expected 1"),
    ("cluster/ranks_per_node", 3, "3 ranks (cluster.nodes x cluster.ranks_per_node) cannot share the 16 sequences"),
    # folders
    ("pathvars/results", ".", "pathvars.results: found '.', which holds the repository"),
    ("pathvars/results", "..", "pathvars.results: found '..'"),
    ("pathvars/results", "/", "pathvars.results: found '/'"),
    ("pathvars/results", "~", "pathvars.results: found '~', in which ~ is a folder's name"),
    ("pathvars/results", "config", "which lies in the code's folder 'config'"),
    ("pathvars/results", "scripts/out", "which lies in the code's folder 'scripts'"),
    ("pathvars/results", ".git/out", "which lies in the code's folder '.git'"),
    ("pathvars/results", "README.md", "README.md"),
    ("pathvars/results", "resources", "the same folder as pathvars.resources"),
    ("pathvars/results", "resources/run", "a folder within pathvars.resources"),
    ("pathvars/resources", "results/demo/resources", "a folder within pathvars.results"),
    ("pathvars/logs", "results/demo", "the same folder as pathvars.results"),
    ("pathvars/benchmarks", "results/demo/logs", "the same folder as pathvars.benchmarks"),
    ("pathvars/results", "", "expected the path of a folder"),
    ("sources/eng_wiki", LOCAL, "sources.eng_wiki.folder: no such folder '/nowhere'"),
    ("tokenizer", {"kind": "local", "folder": "/nowhere"}, "tokenizer.folder: no such folder '/nowhere'"),
    ("chat/open", {"kind": "local", "path": "/nowhere.jsonl", "heldout": 0.1}, "chat.open.path: no such file '/nowhere.jsonl'"),
    ("models/ita/pretrain/from", {"folder": "/nowhere"}, "models.ita.pretrain.from.folder: no such folder '/nowhere'"),
    ("adopt", {"tokens/eng_wiki": {"folder": "/nowhere", "origin": "x"}}, "adopt.tokens/eng_wiki.folder: no such folder '/nowhere'"),
    # options
    ("sources/eng_wiki/options", {"langage": "en-us"}, "unknown option 'langage'; did you mean 'language'?"),
    ("sources/eng_bible/options", {}, "no 'translation', the reader bible needs it"),
    ("chat/agentic/options/languages", "it", "chat.agentic.options.languages: found 'it', expected a list of texts"),
    ("chat/agentic/options/draws", 0, "chat.agentic.options.draws: found 0, expected a whole number of at least 1"),
    ("chat/preferences/options/characters", [9, 3], "expected two whole numbers, the smaller first"),
    (
        "sources/eng_wiki/clean",
        {"quality": {"gopher_quality": {"min_words": 3}}},
        "unknown option 'min_words'; did you mean 'min_doc_words'?",
    ),
    ("sources/eng_wiki/clean", {"quality": {"fineweb_quality": {"short_line_thr": "a"}}}, "short_line_thr: found 'a', expected a number"),
    # evaluations
    ("evaluations/languages/tasks/0/shots", 5, "found 5, data of kind heldout has no examples; expected 0"),
    ("sources/ita_bible/heldout", 0, "'ita_bible' has heldout 0, so there is no text to ask about"),
    ("chat/instruct/heldout", 0, "'instruct' has no heldout share, so there is nothing to ask"),
    ("evaluation_data/translation_ita/sources", ["eng_bible"], "found 1, a translation has two"),
    ("evaluations/languages/tasks/1/name", "heldout_eng", "'heldout_eng' stands in this suite twice"),
    ("evaluations/reference/tasks/0/data", "heldout_ita", "'heldout_eng' is in evaluations.languages with another data set"),
    ("evaluations/languages/tasks/1/name", "a/b", "found 'a/b', expected letters, digits"),
    ("evaluations/languages/tasks/1/name", "", "found '', expected letters, digits"),
    ("evaluations/languages/tasks/1/name", "it's", "expected letters, digits"),
    # stages
    ("models/nesso-instruct/posttrain/0/data", "preferences", "'preferences' makes preferences, for dpo; the stage is sft"),
    ("models/nesso-instruct/posttrain/1/data", "instruct", "'instruct' makes conversations, for sft; the stage is dpo"),
    ("models/nesso-instruct/posttrain/0", ..., "dpo comes first, on a base model"),
    # the key that is meant, where the form depends on it
    (
        "models/nesso-instruct/posttrain/0",
        {"stage": "sft", "recpie": "x", "data": "instruct"},
        "unknown key 'recpie'; did you mean 'recipe'?",
    ),
    ("models/ita", {"title": "x", "languages": ["ita"], "pretrane": {}}, "models.ita: unknown key 'pretrane'; did you mean 'pretrain'?"),
]


@pytest.mark.parametrize(("place", "value", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_one_line(place: str, value: Any, expected: str) -> None:
    said = message(changed(place, value))
    assert expected in said
    assert said.startswith("demo.yaml: ") and "\n" not in said


@pytest.mark.parametrize(
    ("section", "source", "name", "expected"),
    [
        ("models", "spa", "all", "models.all: a rule or a target of the workflow has this name"),
        ("models", "spa", "plan", "models.plan: a rule or a target"),
        ("models", "spa", "tokens", "models.tokens: a rule or a target"),
        ("models", "spa", "fetch", "models.fetch: a rule or a target"),
        ("models", "spa", "report", "models.report: a rule or a target"),
        ("models", "spa", "verify", "models.verify: a rule or a target"),
        ("models", "spa", "config", "models.config: a file or folder of the repository"),
        ("models", "spa", "zagreus", "models.zagreus: a file or folder"),
        ("baselines", "smollm2-135m-instruct", "rules", "baselines.rules: a file or folder"),
        ("models", "spa", "a" * 300, "a name of 300 characters, expected at most 64"),
        ("sources", "eng_wiki", "chat", "sources.chat: the folder of conversations has this name"),
    ],
)
def test_a_name_that_stands_for_something_else(section: str, source: str, name: str, expected: str) -> None:
    assert expected in message(copied(section, source, name))


def test_all_problems_are_said_at_once() -> None:
    config = changed("pathvars/results", "scripts")
    config["sources"]["eng_bible"]["options"] = {}
    config["models"]["ita"]["pretrain"]["mixture"] = {"eng_wiki": 0.5}
    said = message(config)
    assert said.startswith("demo.yaml: 3 problems: (1) ") and "\n" not in said
    assert all(part in said for part in ("pathvars.results", "sources.eng_bible.options", "models.ita.pretrain.mixture"))


@pytest.mark.parametrize("gpu", ["a100", "nvidia_a100-sxm4-80gb", "A100.80GB"])
def test_a_gpu_type_may_have_the_signs_that_clusters_use(gpu: str) -> None:
    assert message(changed("cluster/gpu", gpu)) == ""


def test_results_on_another_disk_are_allowed(tmp_path: Path) -> None:
    assert message(changed("pathvars/results", str(tmp_path / "run"))) == ""


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_holds(name: str) -> None:
    check_config(read_mapping(ROOT / name), name)


def test_no_value_of_the_schema_is_cut_off() -> None:
    """A comma in a text without quotes ends the text in YAML's flow style, and leaves a key with nothing behind."""

    def empty(value: Any, place: str) -> list[str]:
        if isinstance(value, dict):
            return [found for key, inner in value.items() for found in empty(inner, f"{place}.{key}")]
        if isinstance(value, list):
            return [found for index, inner in enumerate(value) for found in empty(inner, f"{place}[{index}]")]
        return [place] if value is None else []

    assert empty(read_yaml(SCHEMA), "") == []


TEXTS: list[tuple[str, str]] = [
    ("a: 1\nb: 2\na: 3", "f.yaml, line 3, column 1: the key 'a' stands there twice, in line 1 and in line 3"),
    ("models:\n  ita: {x: 1}\n  ita: {x: 2}", "line 3, column 3: the key 'ita' stands there twice, in line 2 and in line 3"),
    ("s: {x: 1, y: 2, x: 3}", "the key 'x' stands there twice"),
    ("a:\n\t- b", "f.yaml, line 2, column 1: not YAML"),
    ("a: [1, 2", "not YAML: while parsing a flow sequence"),
    ("a: b: c", "f.yaml, line 1, column 5: not YAML: mapping values are not allowed here"),
    ("a: 'b", "not YAML: while scanning a quoted scalar"),
    ("a: 1\n---\nb: 2", "f.yaml, line 2, column 1: a second document begins, expected one"),
    ("no: {x: 1}", "YAML reads no, off and false as false; write it in quotes, 'no'"),
    ("123: x", "the key 123 is no text; write it in quotes, '123'"),
    ("x: .nan", "line 1, column 4: found .nan, expected a finite number"),
    ("x: -.inf", "found -.inf, expected a finite number"),
    ("a: *b", "found undefined alias 'b'"),
    ("a: \x01", "f.yaml, line 1: the character U+0001, which YAML does not allow"),
    ("a: " + "[" * 5000, "values within values, too deep"),
    ("n: " + "9" * 10000, "a value that cannot be read"),
    ("a: !!python/object:os.system x", "could not determine a constructor"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=lambda text: text[:25])
def test_a_slip_in_yaml_is_named_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_yaml(text, "f.yaml")
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_anchors_and_merge_keys_go_on_working() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "f") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


def test_a_billion_laughs_are_held() -> None:
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 200)}]" for n in range(1, 9))]
    with pytest.raises(InputError, match="more than 1000 aliases"):
        parse_yaml("\n".join(rows), "f.yaml")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: path.write_bytes("titolo: perché".encode("latin-1")), "byte 0xe9 is no UTF-8, expected a text file in UTF-8"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "is no UTF-8"),
        (lambda path: path.mkdir(), "is a folder, expected a YAML file"),
        (lambda path: path.symlink_to("gone"), "no such file"),
        (lambda path: path.write_text(""), "found nothing, expected a mapping"),
        (lambda path: path.write_text("- a\n- b"), "found a list, expected a mapping"),
        (lambda path: path.write_text("text"), "found a str, expected a mapping"),
    ],
)
def test_what_is_no_yaml_file_is_one_line(tmp_path: Path, write: Callable[[Path], object], expected: str) -> None:
    write(tmp_path / "f.yaml")
    with pytest.raises(InputError) as raised:
        read_mapping(tmp_path / "f.yaml")
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "f.yaml").write_bytes("titolo: perché".encode(encoding))
    assert read_mapping(tmp_path / "f.yaml") == {"titolo": "perché"}
