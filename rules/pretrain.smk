# Base models: the whole recipe (render_recipe), a chain of segments of the training (pretrain), each checkpoint in transformers' form
# (convert).


# One recipe for each checkpoint: it ends there, and what the recipe file says of later steps is not in it. The file is `ancient` and its
# part up to the step a parameter, so that a change makes the checkpoints again that it concerns, and no other.
rule render_recipe:
    input:
        image=image("train"),
        recipe=ancient(pretraining.recipe),
        tokenizer="<results>/tokenizer/manifest.json",
        tokens=pretraining.tokens,
    output:
        "<results>/pretrain/{model}/{step}.yaml",
    log:
        "<logs>/render_recipe/{model}/{step}.log",
    benchmark:
        "<benchmarks>/render_recipe/{model}/{step}.tsv"
    # Before any training: the recipe of the last checkpoint is the one that asks for the most tokens.
    priority: 2
    container:
        container("train")
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=longer(10),
    params:
        python=python("train"),
        recipe=pretraining.recipe_fingerprint,
        mixture=pretraining.mixture_argument,
        seed=pretraining.seed_option,
        tokens=path("<results>/tokens"),
        heldout=pretraining.heldout_option,
        checkpoints=path("<results>/pretrain/{model}/checkpoints"),
    shell:
        "{params.python} scripts/render_recipe.py --recipe {input.recipe} --model {wildcards.model} --step {wildcards.step}"
        " --mixture {params.mixture} {params.seed} --tokenizer {input.tokenizer} --tokens {params.tokens}"
        " {params.heldout} --checkpoints {params.checkpoints} --output {output} > {log} 2>&1"


# How many processes train and where is a resource, so that it makes nothing again. It runs on the host: zagreus/cluster/launch.py enters
# the image, on every node of the job where it is a Slurm job. `mpi` (empty: no tasks of its own) keeps the executor from starting a step
# around it, and `tasks_per_gpu` 0 from asking for a task a GPU.
rule pretrain:
    input:
        image=image("train"),
        recipe="<results>/pretrain/{model}/{step}.yaml",
        tokens=pretraining.tokens,
        heldout=pretraining.heldout_tokens,
        previous=pretraining.previous,
        origin=pretraining.init_manifest,
    output:
        manifest="<results>/pretrain/{model}/{step}.json",
        log="<results>/pretrain/{model}/{step}.jsonl",
    log:
        "<logs>/pretrain/{model}/{step}.log",
    benchmark:
        "<benchmarks>/pretrain/{model}/{step}.tsv"
    # Before what is made of its checkpoints: a model's chain is the longest way to the end.
    priority: 1
    # A process trains on one core (zagreus/training/loop.py), or keeps a GPU busy with its node's share of them.
    threads: cluster.cpus_per_node
    resources:
        launcher="local",
        nodes=cluster.nodes,
        ranks=cluster.nproc_per_node,
        gres=cluster.gpus(cluster.nproc_per_node),
        gpu_slots=cluster.gpu_slots(cluster.nproc_per_node),
        cpus_per_task=cluster.cpus_per_node,
        mem_mb=cluster.training_memory,
        runtime=cluster.training_minutes,
        mpi="",
        tasks=cluster.nodes,
        tasks_per_gpu=0,
    params:
        launch=images.launch("train"),
        folder=path("<results>/pretrain/{model}/checkpoints"),
        python=python("train"),
        previous=pretraining.previous_option,
        origin=pretraining.init_option,
        device=images.device,
    shell:
        "{params.launch} --launcher {resources.launcher} --nodes {resources.nodes} --gres '{resources.gres}' --cpus {resources.cpus_per_task}"
        " --folder {params.folder} {params.python} scripts/pretrain.py --recipe {input.recipe} --model {wildcards.model} --step {wildcards.step} {params.previous}"
        " {params.origin} --tokens {input.tokens} --ranks {resources.ranks} --device {params.device} --output {output.manifest} > {log} 2>&1"


rule convert:
    input:
        image=image("train"),
        checkpoint="<results>/pretrain/{model}/{step}.json",
        recipe="<results>/pretrain/{model}/{step}.yaml",
        tokenizer="<results>/tokenizer/manifest.json",
        sources=pretraining.sources,
        heldout=pretraining.heldout_text,
    output:
        "<results>/models/{model}/{step}/manifest.json",
    log:
        "<logs>/convert/{model}/{step}.log",
    benchmark:
        "<benchmarks>/convert/{model}/{step}.tsv"
    container:
        container("train")
    threads: 1
    resources:
        # No GPU: one is dearer than the minutes that one core takes.
        mem_mb=pretraining.conversion_memory,
        runtime=longer(60, "convert"),
    params:
        python=python("train"),
        title=pretraining.title,
        mixture=pretraining.mixture_argument,
    shell:
        "{params.python} scripts/convert.py --checkpoint {input.checkpoint} --recipe {input.recipe} --model {wildcards.model}"
        " --title {params.title} --mixture {params.mixture} --tokenizer {input.tokenizer} --sources {input.sources} --output {output}"
        " > {log} 2>&1"
