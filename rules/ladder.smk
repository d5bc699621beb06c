# The ladder (`ladder` in the config): small trainings of rules/pretrain.smk, the fit of loss(N, D), its figure, and what it predicts.


rule fit_ladder:
    input:
        image=image("evaluate"),
        rungs=ladder.rungs,
        recipe=ancient(ladder.recipe),
    output:
        manifest="<results>/ladder/manifest.json",
        rungs="<results>/ladder/rungs.csv",
    log:
        "<logs>/fit_ladder/fit_ladder.log",
    benchmark:
        "<benchmarks>/fit_ladder/fit_ladder.tsv"
    container:
        container("evaluate")
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=longer(20),
    params:
        python=python("evaluate"),
        target=ladder.target,
    shell:
        "{params.python} scripts/fit_ladder.py {input.rungs} --recipe {input.recipe} --target {params.target}"
        " --output {output.manifest} > {log} 2>&1"


rule plot_ladder:
    input:
        image=image("data"),
        fit="<results>/ladder/manifest.json",
        rungs="<results>/ladder/rungs.csv",
    output:
        "<results>/ladder/ladder.svg",
    log:
        "<logs>/plot_ladder/plot_ladder.log",
    benchmark:
        "<benchmarks>/plot_ladder/plot_ladder.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=longer(20),
    params:
        python=python("data"),
    shell:
        "{params.python} scripts/plot_ladder.py --fit {input.fit} --output {output} > {log} 2>&1"


# Prints a table, so that it always runs; what it asks for is made once.
rule ladder:
    input:
        fit="<results>/ladder/manifest.json",
        rungs="<results>/ladder/rungs.csv",
        figure="<results>/ladder/ladder.svg",
    localrule: True
    params:
        python=python("host"),
        log=ladder.log_option,
    shell:
        "{params.python} scripts/ladder.py --fit {input.fit} {params.log}"
