# Which evaluation items stand in the training text: a job for each task of a source that a model is trained on, and for each data set of
# conversations.


include: "common_contamination.smk"


rule contamination:
    input:
        image=image("data"),
        manifest=contamination_manifest,
        text=contamination_text,
        asked=contamination_items,
    output:
        rows="<results>/contamination/{text}.parquet",
        manifest="<results>/contamination/{text}.json",
    log:
        "<logs>/contamination/{text}.log",
    benchmark:
        "<benchmarks>/contamination/{text}.tsv"
    wildcard_constraints:
        text=r"[a-z][a-z0-9_]*/\d{5}|chat/[a-z][a-z0-9_]*",
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(240),
    params:
        python=python("data"),
    shell:
        "{params.python} scripts/contamination.py --name {wildcards.text} --text {input.manifest} --items {input.asked}"
        " --output {output.manifest} > {log} 2>&1"
