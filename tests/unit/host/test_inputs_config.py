"""Each wrong value of a configuration is said before anything runs, in one line, and all of them
together.
"""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.shipped import CONFIGS
from zagreus.config.check import SCHEMA, check_config
from zagreus.config.long_form import read_config
from zagreus.config.start_checks import REPOSITORY, folder_problems
from zagreus.config.yaml_file import parse_json, parse_yaml, read_mapping, read_yaml
from zagreus.errors import InputError

ROOT = Path(__file__).parents[3]
DEMO = read_config(ROOT / "config/demo.yaml")


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the demo's configuration with one value replaced, or removed for `...`."""
    config = copy.deepcopy(DEMO)
    *folders, key = path.split("/")
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


LOCAL = {
    "language": "eng",
    "kind": "local",
    "folder": "/nowhere",
    "text_column": "text",
    "tasks": 1,
    "heldout": 0.1,
}
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
    (
        "models/ita/pretrain/mixture",
        {"eng_wiki": 30, "ita_bible": 70},
        "sum to 100, expected 1; shares are expected, not per cent",
    ),
    (
        "models/ita/pretrain/mixture",
        {"eng_wiki": 0.5, "ita_bible": 0.499},
        "sum to 0.999, expected 1",
    ),
    (
        "cluster/ranks_per_node",
        3,
        "3 ranks (cluster.nodes x cluster.ranks_per_node) cannot share the 16 sequences",
    ),
    (
        "cluster/memory_mb_per_node",
        10**400,
        "cluster.memory_mb_per_node: found 10000000000000000000..., expected a number within 64 "
        "bits",
    ),
    ("shards/shuffle_seed", -1, "shards.shuffle_seed: -1 is less than the minimum of 0"),
    ("sources/eng_wiki/limit", 2**70, "expected a number within 64 bits"),
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
    (
        "tokenizer",
        {"kind": "local", "folder": "/nowhere"},
        "tokenizer.folder: no such folder '/nowhere'",
    ),
    (
        "chat/open",
        {"kind": "local", "path": "/nowhere.jsonl", "heldout": 0.1},
        "chat.open.path: no such file '/nowhere.jsonl'",
    ),
    (
        "models/ita/pretrain/from",
        {"folder": "/nowhere"},
        "models.ita.pretrain.from.folder: no such folder '/nowhere'",
    ),
    (
        "adopt",
        {"tokens/eng_wiki": {"folder": "/nowhere", "origin": "x"}},
        "adopt.tokens/eng_wiki.folder: no such folder '/nowhere'",
    ),
    (
        "sources/eng_wiki",
        LOCAL | {"folder": "~/text"},
        "no such folder '~/text'; ~ is not expanded, write the whole path",
    ),
    (
        "sources/eng_wiki",
        LOCAL | {"folder": "docs"},
        "sources.eng_wiki.folder: no parquet file in 'docs'",
    ),
    (
        "sources/eng_wiki",
        LOCAL | {"folder": "README.md"},
        "sources.eng_wiki.folder: 'README.md' is a file, expected a folder",
    ),
    (
        "tokenizer",
        {"kind": "local", "folder": "docs"},
        "tokenizer.folder: no tokenizer.json in 'docs'",
    ),
    (
        "chat/open",
        {"kind": "local", "path": "docs", "heldout": 0.1},
        "chat.open.path: 'docs' is a folder, expected a file",
    ),
    ("pathvars/results", ".snakemake/run", "which lies in the code's folder '.snakemake'"),
    (
        "pathvars/results",
        "config/../results/../scripts",
        "which lies in the code's folder 'scripts'",
    ),
    ("pathvars/results", "/usr/local/run", "which is the system's"),
    ("pathvars/results", "../run", "which leads out of the repository; write the whole path"),
    ("pathvars/results", "results/my run", "expected the path of a folder in letters"),
    ("pathvars/results", "results/a:b", "expected the path of a folder in letters"),
    (
        "pathvars/logs",
        "results/demo/figures/logs",
        "a folder within figures of pathvars.results, which a rule writes",
    ),
    ("pathvars/benchmarks", "resources", "the same folder as pathvars.resources"),
    # options
    (
        "sources/eng_wiki/options",
        {"langage": "en-us"},
        "unknown option 'langage'; did you mean 'language'?",
    ),
    ("sources/eng_bible/options", {}, "no 'translation', the reader bible needs it"),
    (
        "chat/agentic/options/languages",
        "it",
        "chat.agentic.options.languages: found 'it', expected a list of texts",
    ),
    (
        "chat/agentic/options/draws",
        0,
        "chat.agentic.options.draws: found 0, expected a whole number of at least 1",
    ),
    (
        "chat/agentic/options/together",
        "slot",
        "chat.agentic.options.together: found 'slot', expected template, call or sentence",
    ),
    (
        "chat/agentic/options/slots",
        {"HassTurnOn": "area"},
        "chat.agentic.options.slots: found {'HassTurnOn': 'area'}, expected lists of texts by name",
    ),
    (
        "chat/preferences/options/characters",
        [9, 3],
        "expected two whole numbers, the smaller first",
    ),
    (
        "sources/eng_wiki/clean",
        {"quality": {"gopher_quality": {"min_words": 3}}},
        "unknown option 'min_words'; did you mean 'min_doc_words'?",
    ),
    (
        "sources/eng_wiki/clean",
        {"quality": {"fineweb_quality": {"short_line_thr": "a"}}},
        "short_line_thr: found 'a', expected a number",
    ),
    (
        "sources/eng_wiki/clean",
        {"quality": {"fineweb_quality": {"line_punct_thr": None}}},
        "line_punct_thr: found null, expected a number",
    ),
    (
        "sources/eng_wiki/clean",
        {"quality": {"gopher_repetition": {"top_n_grams": [2, 0.2]}}},
        "expected a list of pairs",
    ),
    (
        "chat/open/options/turns",
        1,
        "chat.open.options.turns: found 1, expected a whole number of at least 2",
    ),
    # evaluations
    (
        "evaluations/languages/tasks/0/num_fewshot",
        5,
        "found 5, data of kind heldout has no examples; expected 0",
    ),
    ("sources/ita_bible/heldout", 0, "'ita_bible' has heldout 0, so there is no text to ask about"),
    ("chat/instruct/heldout", 0, "'instruct' has no heldout share, so there is nothing to ask"),
    ("evaluation_data/translation_ita/sources", ["eng_bible"], "found 1, a translation has two"),
    (
        "evaluations/languages/tasks/1/name",
        "heldout_eng",
        "'heldout_eng' stands in this suite twice",
    ),
    (
        "evaluations/reference/tasks/0/data",
        "heldout_ita",
        "'heldout_eng' is in evaluations.languages with another data set",
    ),
    ("evaluations/languages/tasks/1/name", "a/b", "found 'a/b', expected letters, digits"),
    ("evaluations/languages/tasks/1/name", "", "found '', expected letters, digits"),
    ("evaluations/languages/tasks/1/name", "it's", "expected letters, digits"),
    # stages
    ("chat/instruct/limit", 1, "chat.instruct: val_set_size 0.05 sets 1 of 1 rows apart"),
    (
        "models/nesso-instruct/posttrain/0/data",
        "preferences",
        "'preferences' makes preferences, for dpo; the stage is sft",
    ),
    (
        "models/nesso-instruct/posttrain/1/data",
        "instruct",
        "'instruct' makes conversations, for sft; the stage is dpo",
    ),
    ("models/nesso-instruct/posttrain/0", ..., "dpo comes first, on a base model"),
    # the key that is meant, where the form depends on it
    (
        "models/nesso-instruct/posttrain/0",
        {"stage": "sft", "recpie": "x", "data": "instruct"},
        "unknown key 'recpie'; did you mean 'recipe'?",
    ),
    (
        "models/ita",
        {"title": "x", "languages": ["ita"], "pretrane": {}},
        "models.ita: unknown key 'pretrane'; did you mean 'pretrain'?",
    ),
]


@pytest.mark.parametrize(("key_path", "value", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_one_line(key_path: str, value: Any, expected: str) -> None:
    said = message(changed(key_path, value))
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
        ("models", "spa", "results", "models.results: a file or folder of the repository"),
        ("models", "spa", "config", "models.config: a file or folder of the repository"),
        ("models", "spa", "zagreus", "models.zagreus: a file or folder"),
        ("baselines", "smollm2-135m-instruct", "rules", "baselines.rules: a file or folder"),
        ("models", "spa", "a" * 300, "a name of 300 characters, expected at most 64"),
        ("sources", "eng_wiki", "chat", "sources.chat: the folder of conversations has this name"),
    ],
)
def test_a_name_that_stands_for_something_else(
    section: str, source: str, name: str, expected: str
) -> None:
    assert expected in message(copied(section, source, name))


HUB = {"kind": "huggingface", "language": "eng", "repo": "a/b", "revision": "main"}
TASK = {
    "name": "mmlu",
    "recipe": "recipes/evaluate/port/oab_exams.yaml",
    "data": "hub",
    "num_fewshot": 3,
}


@pytest.mark.parametrize(
    ("data", "task", "expected"),
    [
        (
            {"files": {"train": "a", "test": "b"}},
            {},
            "names the fewshot_split 'dev', evaluation_data.hub.files has test, train",
        ),
        (
            {"files": {"train": "a"}},
            {"num_fewshot": 0},
            "names the test_split 'test', evaluation_data.hub.files has train",
        ),
        (
            {
                "files": {"train": "a"},
                "examples": {"split": "train", "column": "id", "ids": [1, 2]},
            },
            {},
            "found 3, evaluation_data.hub.examples has 2",
        ),
        (
            {
                "files": {"test": "a"},
                "examples": {"split": "test", "column": "id", "ids": [1, 2, 3]},
            },
            {},
            "",
        ),
        (
            {"files": {"train": "a"}},
            {"recipe": "recipes/evaluate/instructions.yaml"},
            "names no fewshot_split and no training_split",
        ),
        (
            {"files": {"train": "a"}},
            {"recipe": "CITATION.cff", "num_fewshot": 0},
            "CITATION.cff: no key 'output_type', not a task file",
        ),
        (
            {"files": {"train": "a"}},
            {"recipe": "LICENSE", "num_fewshot": 0},
            ".recipe: LICENSE, line ",
        ),
    ],
)
def test_splits_and_examples_of_a_task(
    data: dict[str, Any], task: dict[str, Any], expected: str
) -> None:
    config = changed("evaluation_data/hub", HUB | data)
    config["evaluations"]["reference"]["tasks"] = [TASK | task]
    said = message(config)
    assert expected in said if expected else said == ""


def test_what_options_may_be() -> None:
    config = changed("chat/preferences/options", {"good": 7.5, "bad": 0, "characters": [0, 9]})
    config["sources"]["eng_wiki"]["clean"] = {
        "quality": {
            "gopher_quality": {
                "min_stop_words": 0,
                "max_doc_words": None,
                "min_avg_word_length": 2.5,
            },
            "gopher_repetition": {"top_n_grams": [[2, 0.2], [3, 1]], "dup_line_frac": None},
            "fineweb_quality": {"line_punct_exclude_zero": True, "stop_chars": None},
        }
    }
    assert message(config) == ""


def test_all_of_a_stage_is_checked_at_the_start() -> None:
    config = changed("torch", "cuda") | {"cluster": {"nodes": 1, "ranks_per_node": 16}}
    assert "16 processes cannot share 1 micro batches of 1 a step evenly" in message(config)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tokenizer/vocab_size": 10**9}, " GB in 1 process, this machine has "),
        ({"tokenizer/vocab_size": 10**9, "torch": "cuda"}, "the largest GPU has 288.0 GB"),
        ({"cluster/memory_mb_per_node": 10}, "a node (cluster.memory_mb_per_node) has 10 MB"),
        ({"cluster/memory_mb_per_node": 2000}, ""),
    ],
)
def test_a_size_that_no_machine_holds(changes: dict[str, Any], expected: str) -> None:
    config = copy.deepcopy(DEMO)
    for path, value in changes.items():
        *folders, key = path.split("/")
        inner = config[folders[0]] if folders else config
        inner[key] = value
    said = message(config)
    assert expected in said if expected else said == ""


def test_a_link_to_a_disk_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    folders = DEMO["pathvars"] | {"resources": "file/resources"}
    said = list(folder_problems(folders))
    assert f"is a link to '{tmp_path / 'gone'}', which is not there" in said[0]
    assert "'" + str(tmp_path / "file") + "' is a file; expected a folder" in said[-1]
    (tmp_path / "gone").mkdir()
    assert list(folder_problems(DEMO["pathvars"])) == []


def test_a_folder_of_runs_beside_the_code_stays_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/a").mkdir(parents=True)
    assert list(folder_problems(DEMO["pathvars"] | {"results": "runs/a"})) == []


def test_the_names_of_the_repository_are_all_known() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git here: the list of the repository's files is git's")
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line.split("/")[0] for line in listed} <= REPOSITORY


def test_what_does_not_fit_the_schema_is_said_at_once() -> None:
    config = changed("models/ita/title", 3)
    config["samples"] = None
    config["sources"]["eng_wiki"] |= {"tasks": 0, "taks": 1}
    said = message(config)
    assert said == (
        "demo.yaml: 4 problems: (1) models.ita.title: 3 is not of type 'string'; (2) samples: "
        "null is not of type 'object'; "
        "(3) sources.eng_wiki: unknown key 'taks'; did you mean 'tasks'?; (4) "
        "sources.eng_wiki.tasks: 0 is less than the minimum of 1"
    )


def test_a_wrong_value_is_not_shown_whole() -> None:
    assert (
        message(changed("models", [{"a": "x" * 1000}]))
        == "demo.yaml: models: a list is not of type 'object'"
    )


def test_all_problems_are_said_at_once() -> None:
    config = changed("pathvars/results", "scripts")
    config["sources"]["eng_bible"]["options"] = {}
    config["models"]["ita"]["pretrain"]["mixture"] = {"eng_wiki": 0.5}
    said = message(config)
    assert said.startswith("demo.yaml: 3 problems: (1) ") and "\n" not in said
    assert all(
        part in said
        for part in ("pathvars.results", "sources.eng_bible.options", "models.ita.pretrain.mixture")
    )


@pytest.mark.parametrize("gpu", ["a100", "nvidia_a100-sxm4-80gb", "A100.80GB"])
def test_a_gpu_type_may_have_the_signs_that_clusters_use(gpu: str) -> None:
    assert message(changed("cluster/gpu", gpu)) == ""


def test_results_on_another_disk_are_allowed(tmp_path: Path) -> None:
    assert message(changed("pathvars/results", str(tmp_path / "run"))) == ""


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_holds(name: str) -> None:
    check_config(read_mapping(ROOT / name), name)


def test_no_value_of_the_schema_is_cut_off() -> None:
    """A comma in a text without quotes ends the text in YAML's flow style, and leaves a key with
    nothing behind.
    """

    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [
                key_path
                for key, inner in value.items()
                for key_path in empty(inner, f"{path}.{key}")
            ]
        if isinstance(value, list):
            return [
                key_path
                for index, inner in enumerate(value)
                for key_path in empty(inner, f"{path}[{index}]")
            ]
        return [path] if value is None else []

    assert empty(read_yaml(SCHEMA), "") == []


TEXTS: list[tuple[str, str]] = [
    (
        "a: 1\nb: 2\na: 3",
        "f.yaml, line 3, column 1: the key 'a' stands there twice, in line 1 and in line 3",
    ),
    (
        "models:\n  ita: {x: 1}\n  ita: {x: 2}",
        "line 3, column 3: the key 'ita' stands there twice, in line 2 and in line 3",
    ),
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
    ("a: &a {b: *a}", "f.yaml, line 1, column 4: a value that holds itself"),
    (
        "a: 2026-13-01",
        "f.yaml, line 1, column 4: a value that cannot be read (month must be in 1..12",
    ),
    ("a: !!int x", "line 1, column 4: a value that cannot be read"),
    ("a: !!bool x", "line 1, column 4: a value that cannot be read"),
    ("? [a]\n: b", "a key is a list or a mapping, expected text"),
    ("a: !!python/object:os.system x", "could not determine a constructor"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=lambda text: text[:25])
def test_a_slip_in_yaml_is_named_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_yaml(text, "f.yaml")
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "a": 2}', "f.json: the key 'a' stands there twice"),
        ('{"a": NaN}', "f.json: a: found nan, expected a finite number"),
        ('{"a": {"b": [1e999]}}', "f.json: a.b[0]: found inf, expected a finite number"),
        ("{a: 1}", "f.json, line 1, column 2: not JSON"),
        ("[" * 100_000, "values within values, too deep"),
        ('{"a": ' + "9" * 10_000 + "}", "a value that cannot be read"),
    ],
    ids=lambda text: text[:20],
)
def test_a_configuration_in_json(text: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_json(text, "f.json")
    assert expected in str(raised.value) and "\n" not in str(raised.value)
    assert parse_json('\t{"a":\t1}', "f.json") == {"a": 1}


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_gives_a_traceback(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("f.yaml", "f.json"):
            path = Path(folder) / name
            path.write_bytes(content)
            with contextlib.suppress(InputError):
                read_yaml(path)


GOOD = (ROOT / "config/test.yaml").read_bytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_no_slip_of_the_hand_gives_a_traceback(position: int, written: bytes, removed: int) -> None:
    content = GOOD[:position] + written + GOOD[position + removed :]
    try:
        value = parse_yaml(content.decode("utf-8", errors="replace"), "f.yaml")
        check_config(value if isinstance(value, dict) else {}, "f.yaml")
    except InputError as error:
        assert "\n" not in str(error)


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    10**400,
    1.5,
    "",
    "x",
    "a\nb",
    "\0",
    "e" * 300,
    "~",
    [],
    [None],
    {},
    {"kind": "local"},
]


def key_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of keys of every value within a value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(child for key, part in inner for child in key_paths(part, (*path, key)))]


SMALL = read_yaml(ROOT / "config/test.yaml")
KEY_PATHS = key_paths(SMALL)[1:]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KEY_PATHS), st.sampled_from(VALUES))
def test_no_value_of_another_kind_gives_a_traceback(key_path: tuple[Any, ...], value: Any) -> None:
    config = copy.deepcopy(SMALL)
    inner = config
    for key in key_path[:-1]:
        inner = inner[key]
    inner[key_path[-1]] = value
    assert "\n" not in message(config)


def test_anchors_and_merge_keys_go_on_working() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "f") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
    }


def test_a_billion_laughs_are_held() -> None:
    rows = [
        "a0: &a0 [x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 200)}]" for n in range(1, 9)),
    ]
    with pytest.raises(InputError, match="more than 1000 aliases"):
        parse_yaml("\n".join(rows), "f.yaml")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (
            lambda path: path.write_bytes("titolo: perché".encode("latin-1")),
            "byte 0xe9 is no UTF-8, expected a text file in UTF-8",
        ),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "is no UTF-8"),
        (lambda path: path.mkdir(), "is a folder, expected a YAML file"),
        (lambda path: path.symlink_to("gone"), "no such file"),
        (lambda path: path.write_text(""), "found nothing, expected a mapping"),
        (lambda path: path.write_text("- a\n- b"), "found a list, expected a mapping"),
        (lambda path: path.write_text("text"), "found a str, expected a mapping"),
    ],
)
def test_what_is_no_yaml_file_is_one_line(
    tmp_path: Path, write: Callable[[Path], object], expected: str
) -> None:
    write(tmp_path / "f.yaml")
    with pytest.raises(InputError) as raised:
        read_mapping(tmp_path / "f.yaml")
    assert expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "f.yaml").write_bytes("titolo: perché".encode(encoding))
    assert read_mapping(tmp_path / "f.yaml") == {"titolo": "perché"}
