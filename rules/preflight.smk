# What the machines of a training can do (`bin/zagreus --profile slurm preflight`). Under Slurm every training measures its own nodes
# first, as part of its job (zagreus/cluster/launch.py): the nodes of one job are not those of the next.


# It has no output, so that it runs whenever it is asked for, and nothing depends on it.
rule preflight:
    input:
        image=image("train"),
    log:
        "<logs>/preflight.log",
    threads: cluster.cpus_per_node
    # As pretrain's.
    resources:
        launcher="local",
        nodes=cluster.nodes,
        ranks=cluster.nproc_per_node,
        gres=cluster.gpus(cluster.nproc_per_node),
        gpu_slots=cluster.gpu_slots(cluster.nproc_per_node),
        cpus_per_task=cluster.cpus_per_node,
        mem_mb=cluster.training_memory,
        runtime=30,
        mpi="",
        tasks=cluster.nodes,
        tasks_per_gpu=0,
    params:
        launch=images.launch("train"),
        python=python("train"),
        folder=path("<results>/preflight"),
        device=images.device,
        limits=dumps(cluster.entry),
    shell:
        "{params.launch} --launcher {resources.launcher} --nodes {resources.nodes} --gres '{resources.gres}' --cpus {resources.cpus_per_task}"
        " --folder {params.folder} {params.python} scripts/preflight.py --ranks {resources.ranks} --device {params.device}"
        " --shared {params.folder} --output {params.folder}/preflight.json --limits {params.limits} 2>&1 | tee {log}"
