# What the machines of a training can do (`bin/zagreus --profile slurm preflight`). Under Slurm every training measures its own nodes
# first, as part of its job (zagreus/cluster/launch.py): the nodes of one job are not those of the next.


# It has no output, so that it runs whenever it is asked for, and nothing depends on it.
rule preflight:
    input:
        image=image("train"),
    log:
        "<logs>/preflight.log",
    threads: CLUSTER.get("cpus_per_node", CLUSTER["ranks_per_node"])
    # As pretrain's.
    resources:
        launcher="local",
        nodes=CLUSTER["nodes"],
        ranks=CLUSTER["ranks_per_node"],
        gres=gpus(CLUSTER["ranks_per_node"]),
        gpu_slots=gpu_slots(CLUSTER["ranks_per_node"]),
        cpus_per_task=CLUSTER.get("cpus_per_node", CLUSTER["ranks_per_node"]),
        mem_mb=training_memory,
        runtime=30,
        mpi="",
        tasks=CLUSTER["nodes"],
        tasks_per_gpu=0,
    params:
        launch=launch("train"),
        python=python("train"),
        folder=path("<results>/preflight"),
        device=device_of(config["torch"]),
        limits=dumps(CLUSTER),
    shell:
        "{params.launch} --launcher {resources.launcher} --nodes {resources.nodes} --gres '{resources.gres}' --cpus {resources.cpus_per_task}"
        " --folder {params.folder} {params.python} scripts/preflight.py --ranks {resources.ranks} --device {params.device}"
        " --shared {params.folder} --output {params.folder}/preflight.json --limits {params.limits} 2>&1 | tee {log}"
