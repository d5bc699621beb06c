"""Each mistake in a configuration stops the workflow before anything runs, with one line that names
it.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, snakemake

from zagreus.config.check import check_config
from zagreus.config.long_form import read_config
from zagreus.errors import InputError

DEMO = read_config(ROOT / "config/demo.yaml")


def _with(path: str, value: Any, remove: str = "") -> dict[str, Any]:
    config = copy.deepcopy(DEMO)
    *folders, key = path.split("/")
    inner = config
    for folder in folders:
        inner = inner[int(folder)] if isinstance(inner, list) else inner[folder]
    if remove:
        del inner[remove]
    if isinstance(inner, list):
        inner[int(key)] = value
    else:
        inner[key] = value
    return config


DISTILL = {"stage": "distill", "recipe": "recipes/posttrain/demo_distill.yaml", "data": "agentic"}


def _distilled(start: str = "ita", **changed: Any) -> dict[str, Any]:
    """The demo with a distilled model; models among the changes are added, None removes a key."""
    further = {name: value for name, value in changed.items() if name in ("after", "other")}
    stage = DISTILL | {"teacher": "nesso-agentic"} | changed
    stage = {key: value for key, value in stage.items() if value and key not in further}
    model = {"title": "x", "languages": ["eng"], "from": start, "posttrain": [stage]}
    return DEMO | {"models": DEMO["models"] | {"nesso-distilled": model} | further}


MISTAKES = {
    "unknown key": (_with("tokeniser", {}), "unknown key 'tokeniser'; did you mean 'tokenizer'?"),
    "misspelt key inside": (
        _with("models/ita/pretrain/mixtures", {}, "mixture"),
        "models.ita.pretrain: unknown key 'mixtures'; did you mean 'mixture'?",
    ),
    "misspelt key of a source": (
        _with("sources/eng_wiki/reeder", "x", "reader"),
        "sources.eng_wiki: unknown key 'reeder'; did you mean 'reader'?",
    ),
    "unknown kind": (
        _with("sources/eng_wiki/kind", "http"),
        "sources.eng_wiki: kind is 'http', expected one of package, huggingface, local",
    ),
    "missing key": (
        _with("models/ita/title_", "", "title"),
        "models.ita: unknown key 'title_'; did you mean 'title'?",
    ),
    "near-duplicates in an unknown text": (
        _with("contamination", {"near_duplicates": {"texts": ["agentik"], "threshold": 0.6}}),
        "contamination.near_duplicates.texts: unknown source or chat data 'agentik'; did you mean "
        "'agentic'?",
    ),
    "examples before a needle": (
        _with(
            "evaluation_data/needle",
            {"kind": "needle", "sources": ["ita_bible"], "language": "ita"}
            | {"lengths": [128], "depths": [50], "items": 2},
        )
        | {
            "evaluations": {
                "long": {
                    "for": ["base"],
                    "tasks": [
                        {"name": "needle", "data": "needle", "num_fewshot": 1}
                        | {"recipe": "recipes/evaluate/needle.yaml"}
                    ],
                }
            }
        },
        "evaluations.long.tasks.0.num_fewshot: found 1, data of kind needle has no examples; "
        "expected 0",
    ),
    "unknown source": (
        _with("models/ita/pretrain/mixture", {"eng_wikki": 1.0}),
        "models.ita.pretrain.mixture: unknown source 'eng_wikki'; did you mean 'eng_wiki'?",
    ),
    "unknown language": (
        _with("models/ita/languages", ["eng", "itt"]),
        "models.ita.languages: unknown language 'itt'; did you mean 'ita'?",
    ),
    "unknown model": (
        _with("models/nesso-instruct/from", "itaa"),
        "models.nesso-instruct.from: unknown model 'itaa'; did you mean 'ita'?",
    ),
    "a set of a list": (
        _with("models/nesso-agentic/posttrain/0/data", [{"set": "agentik"}]),
        "models.nesso-agentic.posttrain.0.data: unknown chat data 'agentik'",
    ),
    "a weight for some": (
        _with(
            "models/nesso-agentic/posttrain/0/data",
            [{"set": "agentic", "weight": 1}, {"set": "instruct"}],
        ),
        "some sets have a weight and others have none; expected all or none",
    ),
    "questions without an answer": (
        _with(
            "sources/eng_wiki",
            {
                "language": "eng",
                "kind": "local",
                "folder": "x",
                "tasks": 1,
                "heldout": 0.1,
                "questions": {"question": "q", "choices": "c"},
            },
        ),
        "sources.eng_wiki.questions: no answer, expected the column of the answer",
    ),
    "neither text nor questions": (
        _with(
            "sources/eng_wiki",
            {"language": "eng", "kind": "local", "folder": "x", "tasks": 1, "heldout": 0.1},
        ),
        "sources.eng_wiki: found neither, expected text_column or questions",
    ),
    "a template's name": (
        _with("models/nesso-agentic/posttrain/0/template", "llama"),
        "models.nesso-agentic.posttrain.0.template: 'llama' is not",
    ),
    "another template of dpo": (
        _with("models/nesso-instruct/posttrain/1/template", "llama3"),
        "models.nesso-instruct.posttrain.1: dpo has template 'llama3', and the sft before it has "
        "'chatml'; expected the same one",
    ),
    "a template's file": (
        _with("models/nesso-agentic/posttrain/0/template", {"file": "no.jinja", "stop": "</s>"}),
        "models.nesso-agentic.posttrain.0.template: no such file 'no.jinja'",
    ),
    "no teacher": (
        _distilled(teacher=None),
        "models.nesso-distilled.posttrain.0: no teacher; distill learns from a model",
    ),
    "an unknown teacher": (
        _distilled(teacher="nesso-agentik"),
        "models.nesso-distilled.posttrain.0.teacher: unknown model 'nesso-agentik'",
    ),
    "an unknown checkpoint of a teacher": (
        _distilled(teacher={"model": "nesso-agentic", "checkpoint": "dpo"}),
        "posttrain.0.teacher: unknown checkpoint 'dpo' of nesso-agentic, expected one of sft",
    ),
    "its own teacher": (
        _distilled(teacher="nesso-distilled"),
        "models.nesso-distilled.posttrain.0.teacher: the teacher is the stage itself",
    ),
    "a teacher that it starts from": (
        _distilled(teacher="ita"),
        "models.nesso-distilled.posttrain.0.teacher: the student starts from ita/240",
    ),
    "a teacher that is made from the student": (
        _distilled(
            after={"title": "x", "languages": ["eng"], "from": "nesso-distilled"}
            | {"posttrain": DEMO["models"]["nesso-agentic"]["posttrain"]},
            teacher="after",
        ),
        "teacher: after/sft is made from nesso-distilled/distill, and would teach it",
    ),
    "two that teach one another": (
        _distilled(
            other={"title": "x", "languages": ["eng"], "from": "ita"}
            | {"posttrain": [DISTILL | {"teacher": "nesso-distilled"}]},
            teacher="other",
        ),
        "teacher: other/distill is made from nesso-distilled/distill, and would teach it",
    ),
    "a teacher of another stage": (
        _with("models/nesso-agentic/posttrain/0/teacher", "ita"),
        "models.nesso-agentic.posttrain.0.teacher: the stage is sft; only distill has",
    ),
    "preferences to distill on": (
        _distilled(data="preferences"),
        "'preferences' makes preferences, for dpo; the stage is distill",
    ),
    "a template unlike the student's": (
        _distilled(template="hermes", start="nesso-agentic", teacher="nesso-instruct"),
        "posttrain.0: distill has template 'hermes', and the sft before it has 'chatml'",
    ),
    "a recipe of Axolotl's for a distillation": (
        _distilled(recipe="recipes/posttrain/demo_sft.yaml"),
        "demo_sft.yaml: ",
    ),
    "weights": (
        _with("models/ita/pretrain/mixture", {"eng_wiki": 0.5, "ita_bible": 0.4}),
        "models.ita.pretrain.mixture: the weights sum to 0.9, expected 1",
    ),
    "steps not increasing": (_with("models/ita/pretrain/checkpoints", [20, 10]), "10"),
    "no recipe": (
        _with("models/ita/pretrain/recipe", "recipes/no.yaml"),
        "models.ita.pretrain.recipe: no such file 'recipes/no.yaml'",
    ),
    "circle": (
        _with("models/nesso-instruct/from", "nesso-instruct"),
        "models.nesso-instruct.from: the models nesso-instruct start from one another",
    ),
    "unknown chat data": (
        _with("models/nesso-instruct/posttrain/0/data", "instrukt"),
        "unknown chat data 'instrukt'; did you mean 'instruct'?",
    ),
    "a language of code": (
        _with("sources/code_homeassistant/clean/language", 0.5),
        "sources.code_homeassistant.clean.language: the source is code, which has no language to "
        "keep",
    ),
    "no names to compare": (
        _with("sources/eng_wiki/clean", {"deduplicate": "url"}),
        "sources.eng_wiki.clean.deduplicate: url compares the documents' names, and the source "
        "has no id_column that gives them",
    ),
    "an unknown filter": (
        _with("sources/eng_wiki/clean", {"quality": {"gopher": {}}}),
        "sources.eng_wiki.clean.quality: unknown key 'gopher'; did you mean 'gopher_quality'?",
    ),
    "nowhere to adopt to": (
        _with("adopt", {"tokens/eng_wikki": {"folder": "x", "origin": "y"}}),
        "adopt.tokens/eng_wikki: unknown source 'eng_wikki'; did you mean 'eng_wiki'?",
    ),
    "a step to adopt that the model has not": (
        _with("adopt", {"pretrain/ita/41": {"folder": "x", "origin": "y"}}),
        "adopt.pretrain/ita/41: unknown checkpoint '41'",
    ),
    "a checkpoint to adopt of a post-trained model": (
        _with("adopt", {"pretrain/nesso-instruct/41": {"folder": "x", "origin": "y"}}),
        "adopt.pretrain/nesso-instruct/41: 'nesso-instruct' is no base model",
    ),
    "tokens to adopt from the hub": (
        _with("adopt", {"tokens/eng_wiki": {"repo": "x/y", "revision": "main"}}),
        "adopt.tokens/eng_wiki: found a repository of the data hub, expected a folder",
    ),
    "adopted without an origin": (
        _with("adopt", {"tokens/eng_wiki": {"folder": "x"}}),
        "'origin' is a required property",
    ),
    "wrong type": (
        _with("sources/eng_wiki/tasks", 0),
        "sources.eng_wiki.tasks: 0 is less than the minimum of 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line(mistake: str) -> None:
    config, expected = MISTAKES[mistake]
    with pytest.raises(InputError) as raised:
        check_config(config, "demo.yaml")
    assert expected in str(raised.value)
    assert str(raised.value).startswith("demo.yaml: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "config", ["config.yaml", "config/small.yaml", "config/demo.yaml", "config/test.yaml"]
)
def test_the_shipped_ones_are_right(config: str) -> None:
    check_config(yaml.safe_load((ROOT / config).read_text()), config)


def test_the_workflow_stops(checkout: Path) -> None:
    bad = checkout / "bad.yaml"
    bad.write_text(yaml.safe_dump(MISTAKES["weights"][0]))
    done = snakemake("all", "--dry-run", "--configfile", str(bad), folder=checkout)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if "error" in line.lower()] == [
        f"error: {bad}: models.ita.pretrain.mixture: the weights sum to 0.9, expected 1"
    ]


def test_a_recipe_with_an_unknown_key_stops_the_workflow(checkout: Path) -> None:
    recipe = yaml.safe_load((ROOT / DEMO["models"]["ita"]["pretrain"]["recipe"]).read_text())
    recipe["optimizer"]["weight_dekay"] = 0.1
    (checkout / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (checkout / "bad.yaml").write_text(
        yaml.safe_dump(_with("models/ita/pretrain/recipe", "recipe.yaml"))
    )
    done = snakemake("all", "--dry-run", "--configfile", "bad.yaml", folder=checkout)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(errors) == 1 and "weight_dekay" in errors[0]


def test_the_default_configuration_is_read_strictly_too(checkout: Path) -> None:
    (checkout / "config.yaml").unlink()
    (checkout / "config.yaml").write_text(
        (ROOT / "config/test.yaml").read_text() + "\nsamples: {prompts: {}, tokens: 1}\n"
    )
    done = snakemake("all", "--dry-run", folder=checkout)
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1
    assert (
        done.stderr.startswith("error: config.yaml, line ")
        and "the key 'samples' stands there twice" in done.stderr
    )


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another disk than the repository's, which no image sees by itself."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm: a second disk is needed")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def test_images_see_what_the_configuration_names_elsewhere(checkout: Path, elsewhere: Path) -> None:
    """A folder of text, and results that are a link to another disk."""
    for folder in ("text", "disk"):
        (elsewhere / folder).mkdir()
    (elsewhere / "text/a.parquet").touch()
    (checkout / "results").symlink_to(elsewhere / "disk")
    source = {
        "language": "eng",
        "kind": "local",
        "folder": str(elsewhere / "text"),
        "text_column": "text",
        "tasks": 1,
        "heldout": 0.1,
    }
    (checkout / "elsewhere.yaml").write_text(yaml.safe_dump(_with("sources/eng_wiki", source)))
    (checkout / "probe.smk").write_text(f"""
include: "{ROOT / "Snakefile"}"
rule probe:
    localrule: True
    shell: "echo $ZAGREUS_CONTAINER"
""")
    arguments = ("probe", "--sdm", "apptainer", "--configfile", "elsewhere.yaml")
    done = snakemake(*arguments, folder=checkout, snakefile=checkout / "probe.smk")
    assert done.returncode == 0, done.stderr
    assert (
        f"--bind {elsewhere / 'disk/demo'}" in done.stdout
        and f"--bind {elsewhere / 'text'}" in done.stdout
    )
    assert (elsewhere / "disk/demo").is_dir()
