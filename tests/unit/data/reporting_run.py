"""A small finished run, written by hand in the formats that the stages write, for the tests of
reporting.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

from zagreus.data.contamination import ROWS
from zagreus.manifest import sha256_file, write_manifest

LANGUAGES = ("eng", "ita", "spa", "por", "fra", "code")
SOURCES = {
    "eng_wiki": "eng",
    "eng_bible": "eng",
    "ita_bible": "ita",
    "spa_bible": "spa",
    "por_bible": "por",
    "fra_bible": "fra",
    "fra_wiki": "fra",
    "code_homeassistant": "code",
}
MIXTURES = {
    "ita": {"eng_wiki": 0.2, "eng_bible": 0.2, "ita_bible": 0.4, "code_homeassistant": 0.2},
    "spa": {"eng_wiki": 0.2, "eng_bible": 0.2, "spa_bible": 0.4, "code_homeassistant": 0.2},
    "por": {"eng_wiki": 0.2, "eng_bible": 0.2, "por_bible": 0.4, "code_homeassistant": 0.2},
    "fra": {
        "eng_wiki": 0.2,
        "eng_bible": 0.2,
        "fra_bible": 0.3,
        "fra_wiki": 0.1,
        "code_homeassistant": 0.2,
    },
}
STEPS = (80, 160, 240)
TOKENS_PER_STEP = 8192
BASES = tuple(MIXTURES)
POSTTRAINED = {"nesso-instruct": ("sft", "dpo"), "nesso-agentic": ("sft",)}
# Every task that is right or wrong is made of one data set, so that its overlaps concern them all.
TASKS = {f"choice_{language}": "items" for language in LANGUAGES}
# Format: bytes of its file, rise of bits per byte, share of equal greedy tokens.
EXPORTS = {"f16": (2000, 0.0001, 0.999), "q8_0": (1060, 0.002, 0.97)}
REQUESTS = {"items": 20, "ends_turn": 1.0, "valid_call": 1.0, "right_tool": 0.8}
PLAN = {
    "peak_flops": 1e12,
    "mfu": 0.4,
    "models": {
        name: {"recipe": "recipes/pretrain/demo.yaml", "steps": STEPS[-1]} for name in BASES
    },
    "config": {
        "models": {
            name: {
                "pretrain": {
                    "recipe": "recipes/pretrain/demo.yaml",
                    "mixture": mixture,
                    "checkpoints": list(STEPS),
                }
            }
            for name, mixture in MIXTURES.items()
        },
        "sources": {name: {"language": language, "tasks": 1} for name, language in SOURCES.items()},
        "tokenizer": {"kind": "train", "vocab_size": 4096},
        "plan": {
            "peak_flops": 1e12,
            "mfu": 0.4,
            "prices": {"currency": "EUR", "rank_hour": 2.0, "cpu_hour": 0.1},
        },
    },
}
UNIGRAM = {"eng": 4.4, "ita": 4.2, "spa": 4.3, "por": 4.35, "fra": 4.32, "code": 4.9}


def family() -> list[dict]:
    """The models as the rule gives them to the scripts."""
    bases = [
        {
            "name": name,
            "title": f"Zagreus demo, English and {name}",
            "kind": "base",
            "languages": ["eng", name],
            "parent": None,
        }
        | {"checkpoints": [str(step) for step in STEPS], "mixture": mixture}
        for name, mixture in MIXTURES.items()
    ]
    after = [
        {
            "name": name,
            "title": f"Demo of {name}",
            "kind": "posttrained",
            "languages": ["eng", "ita"],
            "parent": "ita",
        }
        | {"checkpoints": list(stages), "mixture": {}}
        for name, stages in POSTTRAINED.items()
    ]
    baseline = {
        "name": "smollm2",
        "title": "SmolLM2 135M Instruct",
        "kind": "baseline",
        "languages": ["eng"],
        "parent": None,
    }
    return [*bases, *after, baseline | {"checkpoints": ["release"], "mixture": {}}]


def bits(model: str, step: int, language: str) -> float:
    """Bits per byte that fall with the step, and further on the model's own languages."""
    own = language in ("eng", "code", model)
    return round(
        (2.2 if own else 3.1) + 1.5 * math.exp(-step / 90) + 0.01 * LANGUAGES.index(language), 6
    )


def write_run(root: Path, *, bits_of=bits, turns: float = 0.94) -> list[str]:  # type: ignore[no-untyped-def]
    """Write a run below `root` and return the manifests of its scores and samples.

    Args:
        root: where to write; the paths in the manifests begin with it.
        bits_of: bits per byte by model, step and language.
        turns: share of its answers that the post-trained model ends.
    """
    wheel = _file(root / "packages" / "texts-1.0-py3-none-any.whl", "a wheel")
    tokens = {}
    sources = []
    for number, source in enumerate(SOURCES):
        text = _file(root / "sources" / source / "00000.parquet", f"text of {source}")
        sources.append(root / "sources" / source / "00000.json")
        write_manifest(
            sources[-1],
            kind="source",
            name=f"{source}/00000",
            inputs=[wheel],
            outputs=[text],
            documents=100 + number,
            heldout_documents=10,
            dropped={"blank": number, "repeated": 0},
        )
    tokenizer = root / "tokenizer" / "manifest.json"
    vocabulary = _file(root / "tokenizer" / "tokenizer.json", "{}")
    write_manifest(
        tokenizer,
        kind="tokenizer",
        name="tokenizer",
        inputs=sources,
        outputs=[vocabulary],
        vocab_size=16384,
    )
    for number, source in enumerate(SOURCES):
        shard = _file(root / "tokens" / source / "00000_unshuffled.ds", f"tokens of {source}")
        tokens[source] = root / "tokens" / source / "00000.json"
        write_manifest(
            tokens[source],
            kind="tokens",
            language=SOURCES[source],
            name=f"{source}/00000",
            inputs=[sources[number], tokenizer],
            outputs=[shard],
            documents=100 + number,
            tokens=500_000 + 1000 * number,
            text_bytes=2_000_000 + 7 * number,
            words=400_000,
            token_bytes=2,
            circumstances={"tokens_per_second": 250_000},
        )
    items = _file(root / "evaluation_data" / "items.parquet", "items")
    questions = root / "evaluation_data" / "items.json"
    write_manifest(
        questions,
        kind="evaluation_data",
        name="items",
        inputs=[wheel],
        outputs=[items],
        rows_lost={"test": {"null": 2}, "dev": {}},
    )
    manifests = []
    models: dict[str, Path] = {}
    for model in BASES:
        previous: list[Path] = []
        for step in STEPS:
            log = root / "pretrain" / model / f"{step}.jsonl"
            _log(log, model, step)
            checkpoint = root / "pretrain" / model / f"{step}.json"
            write_manifest(
                checkpoint,
                kind="checkpoint",
                name=f"{model}/{step}",
                inputs=[*(tokens[source] for source in MIXTURES[model]), *previous],
                outputs=[
                    _file(
                        root
                        / "pretrain"
                        / model
                        / "checkpoints"
                        / str(step)
                        / "weights.safetensors",
                        f"{model} {step}",
                    )
                ],
                model=model,
                step=step,
                tokens_seen=step * TOKENS_PER_STEP,
            )
            previous = [checkpoint]
            models[f"{model}/{step}"] = _model(root, model, str(step), [checkpoint], 6_200_000)
            heldout = [_bits(language, bits_of(model, step, language)) for language in LANGUAGES]
            choice = [
                _choice(f"choice_{language}", language, 0.26 + 0.0008 * step)
                for language in ("eng", model)
            ]
            manifests.append(
                _scores(
                    root,
                    model,
                    str(step),
                    "languages",
                    heldout + choice,
                    [models[f"{model}/{step}"], questions],
                )
            )
        manifests.append(
            _samples(root, model, str(step), [models[f"{model}/{step}"]], "In the beginning")
        )
    for number, source in enumerate(SOURCES):
        overlapping = {"ita_bible": [1, 5, 9], "eng_wiki": [5]}.get(source, [])
        manifests.append(_contamination(root, source, sources[number], questions, overlapping))
    chat_rows = _file(root / "chat" / "instruct.jsonl", "{}")
    chat = root / "chat" / "instruct.json"
    write_manifest(
        chat,
        kind="chat",
        name="instruct",
        inputs=[wheel],
        outputs=[chat_rows],
        rows_read=400,
        rows_lost={"no JSON": 3, "no user turn": 1},
        rows_repeated=16,
    )
    for model, stages in POSTTRAINED.items():
        parent = models["ita/240"]
        for stage in stages:
            log = root / "posttrain" / model / stage / "log.jsonl"
            lines = [
                {"event": "start"},
                *(
                    {"step": step, "loss": round(3 * math.exp(-step / 20), 6)}
                    for step in range(1, 31)
                ),
            ]
            _file(log, "".join(json.dumps(line) + "\n" for line in lines))
            parent = _model(root, model, stage, [parent, chat], 6_200_000, log)
            choice = [_choice("choice_eng", "eng", 0.41), _choice("choice_ita", "ita", 0.44)]
            answers = [
                _answer(language, metric, turns)
                for language in ("eng", "ita")
                for metric in ("ends_turn", "not_empty")
            ]
            manifests += [
                _scores(
                    root,
                    model,
                    stage,
                    "languages",
                    [_bits("eng", 2.31), *choice],
                    [parent, questions],
                ),
                _scores(root, model, stage, "instructions", answers, [parent, questions]),
            ]
        manifests.append(_samples(root, model, stage, [parent], "Ciao, come stai?"))
        manifests += [
            _export(root, model, stage, form, parent)
            for form in (EXPORTS if model == "nesso-instruct" else ())
        ]
    baseline = _model(root, "smollm2", "release", [wheel], 134_515_008)
    choice = [_bits("eng", 1.1), _choice("choice_eng", "eng", 0.61)]
    manifests.append(
        _scores(root, "smollm2", "release", "reference", choice, [baseline, questions])
    )
    manifests.append(_samples(root, "smollm2", "release", [baseline], "In the beginning"))
    return [str(path) for path in manifests]


def write_benchmarks(folder: Path) -> None:
    """Write two of Snakemake's benchmark files.

    The jobs of one rule were measured, the others not.
    """
    for job, seconds in (("ita/80", 61.25), ("ita/160", 59.5)):
        columns = {
            "s": seconds,
            "h:m:s": "0:01:01",
            "max_rss": 812.5,
            "max_vms": 1,
            "max_uss": 1,
            "max_pss": 1,
            "io_in": 0,
            "io_out": 0,
        }
        columns |= {"mean_load": 180.0, "cpu_time": 110.0}
        _file(
            folder / "pretrain" / f"{job}.tsv",
            "\t".join(columns) + "\n" + "\t".join(map(str, columns.values())) + "\n",
        )


def _file(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _log(path: Path, model: str, step: int) -> None:
    lines: list[dict] = [{"event": "start", "parameters": 6_200_000}]
    for number in range(step - 79, step + 1):
        loss = (
            3.2
            + 6.4 * math.exp(-number / 70)
            + 0.05 * math.sin(number + len(model) + BASES.index(model))
        )
        rate = 1e-3 * min(1, number / 20) * min(1, (250 - number) / 60)
        lines.append(
            {
                "step": number,
                "loss": loss,
                "grad_norm": 0.4 + 3 / number,
                "learning_rate": rate,
                "tokens": number * TOKENS_PER_STEP,
            }
            | {
                "seconds": 0.7,
                "tokens_per_second": 11700 + number,
                "mfu": 0.3,
                "data_wait_seconds": 0.001,
            }
        )
    _file(path, "".join(json.dumps(line) + "\n" for line in lines))


def _model(
    root: Path,
    model: str,
    checkpoint: str,
    inputs: list[Path],
    parameters: int,
    log: Path | None = None,
) -> Path:
    folder = root / "models" / model / checkpoint
    weights = _file(folder / "model.safetensors", f"weights of {model} {checkpoint}")
    manifest = folder / "manifest.json"
    facts: dict = {"model": model, "checkpoint": checkpoint, "vocab_size": 16384}
    if not checkpoint.isdigit():
        facts |= {"parameters": parameters, "rows_given": 380, "rows_lost": {"too long": 19}}
    else:
        facts |= {"logit_difference": 3.8e-6, "logit_difference_allowed": 8.6e-4}
    outputs = [weights] if log is None else [weights, log]
    facts |= {"circumstances": {"train_tokens": 40_000, "train_seconds": 8.0}} if log else {}
    write_manifest(
        manifest,
        kind="model",
        name=f"{model}/{checkpoint}",
        inputs=inputs,
        outputs=outputs,
        **facts,
    )
    return manifest


def _bits(language: str, value: float) -> dict:
    return {
        "task": f"heldout_{language}",
        "language": language,
        "metric": "bits_per_byte",
        "value": value,
        "stderr": 0.02,
        "n": 120,
        "num_fewshot": 0,
        "chance": None,
        "majority_baseline": UNIGRAM[language],
        "higher_is_better": False,
        "task_version": 1,
        "task_hash": "aa",
        "data_sha256": "cc" * 32,
    }


def _answer(language: str, metric: str, value: float) -> dict:
    return {
        **_choice(f"instructions_{language}", language, value),
        "value": round(value * {"eng": 40, "ita": 60}[language]) / {"eng": 40, "ita": 60}[language],
        "metric": metric,
        "chance": None,
        "majority_baseline": None,
        "n": {"eng": 40, "ita": 60}[language],
    }


def _choice(task: str, language: str, value: float) -> dict:
    value = round(value * 500) / 500
    return {
        "task": task,
        "language": language,
        "metric": "acc",
        "value": value,
        "stderr": round(math.sqrt(value * (1 - value) / 199), 6),
        "n": 500,
        "num_fewshot": 0,
        "chance": 0.25,
        "majority_baseline": 0.28,
        "higher_is_better": True,
        "task_version": 1,
        "task_hash": "bb",
        "data_sha256": "dd" * 32,
        "unparsed": 0.0,
        "label_shares": {"0": 0.75, "1": 0.25},
        "set_aside": {"a choice is empty": 2, "no gold": 1},
    }


def _scores(
    root: Path, model: str, checkpoint: str, suite: str, scores: list[dict], inputs: list[Path]
) -> Path:
    folder = root / "evaluate" / model / checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    items = folder / f"{suite}.items.parquet"
    first: dict[str, dict] = {}
    for score in scores:
        first.setdefault(score["task"], score)
    rows = [row for score in first.values() for row in _items(model, checkpoint, score)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=ITEMS), items)
    facts = {
        "model": model,
        "checkpoint": checkpoint,
        "suite": suite,
        "scores": scores,
        "dtype": "float32",
        "scorer": "harness",
    }
    facts["weights_sha256"] = sha256_file(
        root / "models" / model / checkpoint / "model.safetensors"
    )
    facts["circumstances"] = {
        "seconds_per_task": dict.fromkeys(first, 2.0),
        "tokens_per_task": dict.fromkeys(first, 3000),
    }
    facts["circumstances"]["parameters"] = 6_200_000
    write_manifest(
        folder / f"{suite}.json",
        kind="scores",
        name=f"{model}/{checkpoint}/{suite}",
        inputs=inputs,
        outputs=[items],
        **facts,
    )
    return folder / f"{suite}.json"


ITEMS = pyarrow.schema(
    [
        ("task", pyarrow.string()),
        ("doc_id", pyarrow.int64()),
        ("gold", pyarrow.int64()),
        ("prediction", pyarrow.int64()),
    ]
    + [
        ("correct", pyarrow.bool_()),
        ("loglikelihoods", pyarrow.list_(pyarrow.float64())),
        ("bytes", pyarrow.list_(pyarrow.int64())),
    ]
    + [
        ("response", pyarrow.string()),
        ("values", pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.float64()))),
    ]
    + [("pair", pyarrow.list_(pyarrow.string()))]
)


def _items(model: str, checkpoint: str, score: dict) -> list[dict]:
    """Items that give the score: of right and wrong ones, the share.

    Of bits per byte, ones that vary about it.
    """
    draw = random.Random(
        f"{score['task']}"
    )  # the same items are hard for every model, but for some
    n = score["n"]
    if score["metric"] == "bits_per_byte":
        hard = [1 + 0.2 * draw.uniform(-1, 1) for _ in range(n)]
        total = sum(hard)
        nats = [-score["value"] * math.log(2) * 100 * n * difficulty / total for difficulty in hard]
        return [
            {"task": score["task"], "doc_id": index, "loglikelihoods": [value], "bytes": [100]}
            | {"values": [("bits_per_byte", [-value / math.log(2), 100.0])]}
            for index, value in enumerate(nats)
        ]
    order = sorted(
        range(n),
        key=lambda index: (
            draw.random() + 0.3 * random.Random(f"{model} {checkpoint} {index}").random()
        ),
    )
    right = set(order[: round(score["value"] * n)])
    return [
        {"task": score["task"], "doc_id": index, "correct": index in right, "response": "x"}
        | {"values": [(score["metric"], [float(index in right), 1.0])]}
        for index in range(n)
    ]


def _contamination(
    root: Path, source: str, text: Path, questions: Path, overlapping: list[int]
) -> Path:
    """The scan of a source's text: some items of the data set `items` stand in it."""
    manifest = root / "contamination" / source / "00000" / "eng.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "dataset": "items",
            "split": "test",
            "row": row,
            "item": f"i{row}",
            "ngrams": 9,
            "matched": 3,
            "documents": 2,
            "example": "d1",
        }
        for row in overlapping
    ]
    path = manifest.with_suffix(".parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=ROWS), path)
    overlap = {"items": {"items": 500, "checked": 190, "overlapping": len(overlapping)}}
    write_manifest(
        manifest,
        kind="contamination",
        name=f"{source}/00000/eng",
        inputs=[text, questions],
        outputs=[path],
        overlap=overlap,
    )
    return manifest


def _export(root: Path, model: str, checkpoint: str, form: str, parent: Path) -> Path:
    size, rise, greedy = EXPORTS[form]
    folder = root / "exports" / model / checkpoint / form
    file = _file(folder / f"{model}-{checkpoint}-{form.upper()}.gguf", "x" * size)
    speeds = [{"threads": count, "prefill": 900.0 * count, "decode": 80.0} for count in (1, 2)]
    measured = {"bytes": size, "load_seconds": 0.25, "memory_bytes": 9e7, "prompt": 512, "new": 128}
    write_manifest(
        folder / "manifest.json",
        kind="export",
        name=f"{model}/{checkpoint}/{form}",
        inputs=[parent],
        outputs=[file],
        circumstances={"measured": measured | {"speeds": speeds}},
        model=model,
        checkpoint=checkpoint,
        format=form,
        runtime="llama.cpp",
        bytes=size,
        logit_difference=rise / 10,
        bits_per_byte={"eng": 2.31 + rise, "ita": 2.2 + rise / 2},
        bits_per_byte_fp32={"eng": 2.31, "ita": 2.2},
        greedy_equal=greedy,
        positions=3000,
        texts_with_equal_tokens=93,
        requests={"ita": REQUESTS | {"right_call": 0.35 - 10 * rise, "equal_answers": 0.95}},
        requests_fp32={"ita": REQUESTS | {"right_call": 0.35}},
    )
    return folder / "manifest.json"


def _samples(root: Path, model: str, checkpoint: str, inputs: list[Path], prompt: str) -> Path:
    path = root / "samples" / model / f"{checkpoint}.json"
    text = "<b>God</b> made the heaven & the earth.\nAnd"
    samples = [
        {
            "language": "eng",
            "prompt": prompt,
            "method": method,
            "text": text,
            "ended": model not in BASES,
            "tokens": 12,
        }
        for method in ("greedy", "sampled", "sampled", "sampled", "sampled")
    ]
    write_manifest(
        path,
        kind="samples",
        name=f"{model}/{checkpoint}",
        inputs=inputs,
        model=model,
        checkpoint=checkpoint,
        chat=model not in BASES,
        samples=samples,
    )
    return path


def script(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", f"scripts/{name}.py", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def tabulate(manifests: list[str], benchmarks: Path, output: Path) -> subprocess.CompletedProcess:
    """Make the tables of a run, with the family's models, tasks and plan."""
    arguments = ["--models", json.dumps(family()), "--tasks", json.dumps(TASKS)]
    arguments += ["--plan", json.dumps(PLAN), "--reference", "reference"]
    folders = ["--benchmarks", benchmarks, "--output", output]
    return script("tabulate", *manifests, *arguments, *folders)


def make_report(root: Path) -> list[str]:
    manifests = write_run(root)
    write_benchmarks(root / "benchmarks")
    tables, figures = root / "tables", root / "figures"
    for done in (
        tabulate(manifests, root / "benchmarks", tables),
        script("plot", "--tables", tables, "--output", figures),
        script(
            "report",
            *manifests,
            "--name",
            "small",
            "--tables",
            tables,
            "--figures",
            figures,
            "--output",
            root / "report.html",
        ),
    ):
        assert done.returncode == 0, done.stderr
    return manifests
