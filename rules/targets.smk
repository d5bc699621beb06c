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
        tokens=sources.token_indexes(),
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
        models.finished_bases(),


rule evals:
    input:
        evaluation.scores(),


# Everything that needs a network: after it, the rest runs without one.
rule stage:
    input:
        images.all(),
        sources.all_manifests(),
        sources.clean_wheels(),
        evaluation.punkt_wheels(),
        "<results>/tokenizer/manifest.json",
        posttraining.chat_manifests(),
        evaluation.data_manifests(),
        models.releases(),


# One target for each model: its checkpoints, their scores, and the texts that the finished one writes.
for name in models.made:

    rule:
        name:
            name
        input:
            models.manifests(name),
            evaluation.scores(name),
            evaluation.samples(name),
        localrule: True
