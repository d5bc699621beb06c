# Scalars in trackers (`track` in the config), after each training. The target `tracked` asks for them; no other target does, so that a
# tracker that is away keeps no run from its end. On the host: the tracker is in an environment of the user's own.


localrules:
    track,


rule track:
    input:
        publishing.finished_model,
    output:
        touch("<results>/tracking/{tracker}/{model}.done"),
    log:
        "<logs>/track/{tracker}/{model}.log",
    benchmark:
        "<benchmarks>/track/{tracker}/{model}.tsv"
    wildcard_constraints:
        tracker="tensorboard|trackio|wandb|mlflow",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=longer(20),
    params:
        python=python("host"),
        results=path("<results>"),
        folder=path("<results>/tracking/{tracker}"),
    shell:
        "{params.python} scripts/track.py {params.results} --to {wildcards.tracker} --folder {params.folder} > {log} 2>&1"


rule tracked:
    input:
        publishing.tracked(),
