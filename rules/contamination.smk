# Which evaluation items stand in the training text: a job for each part of a source (some tasks) that a model is trained on and each language
# of items, and for each data set of conversations.


rule contamination:
    input:
        image=image("data"),
        manifests=contamination.manifests,
        text=contamination.texts,
        asked=contamination.items,
    output:
        rows="<results>/contamination/{text}/{language}.parquet",
        manifest="<results>/contamination/{text}/{language}.json",
    log:
        "<logs>/contamination/{text}/{language}.log",
    benchmark:
        "<benchmarks>/contamination/{text}/{language}.tsv"
    wildcard_constraints:
        text=r"[a-z][a-z0-9_]*/\d{5}|chat/[a-z][a-z0-9_]*",
        language="[a-z]+",
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(720, "contamination"),
    params:
        python=python("data"),
    shell:
        "{params.python} scripts/contamination.py --name {wildcards.text}/{wildcards.language} --text {input.manifests} --items {input.asked}"
        " --output {output.manifest} > {log} 2>&1"


# The same items in other words: only for the texts that the section `contamination` names.
rule near_duplicates:
    input:
        image=image("data"),
        manifests=contamination.manifests,
        text=contamination.texts,
        asked=contamination.items,
    output:
        rows="<results>/near_duplicates/{text}/{language}.parquet",
        manifest="<results>/near_duplicates/{text}/{language}.json",
    log:
        "<logs>/near_duplicates/{text}/{language}.log",
    benchmark:
        "<benchmarks>/near_duplicates/{text}/{language}.tsv"
    wildcard_constraints:
        text=r"[a-z][a-z0-9_]*/\d{5}|chat/[a-z][a-z0-9_]*",
        language="[a-z]+",
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(720, "near_duplicates"),
    params:
        python=python("data"),
        threshold=contamination.threshold,
    shell:
        "{params.python} scripts/near_duplicates.py --name {wildcards.text}/{wildcards.language} --text {input.manifests} --items {input.asked}"
        " --threshold {params.threshold} --output {output.manifest} > {log} 2>&1"
