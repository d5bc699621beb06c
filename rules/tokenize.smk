# The run's tokenizer (tokenizer), token shards, one for each task of each source (tokenize), what stands for all of a source's
# (index_tokens), and held-out tokens of the sources that a training looks at as it runs (tokenize_heldout).


rule tokenizer:
    input:
        image=image("data"),
        sources=tokenizer.sources(),
        wheel=tokenizer.wheel(),
        folder=tokenizer.folder(),
    output:
        tokenizer="<results>/tokenizer/tokenizer.json",
        config="<results>/tokenizer/tokenizer_config.json",
        manifest="<results>/tokenizer/manifest.json",
    log:
        "<logs>/tokenizer/tokenizer.log",
    benchmark:
        "<benchmarks>/tokenizer/tokenizer.tsv"
    container:
        container("data")
    # One thread: everything waits for it, and on a small machine it must not itself wait until two cores are free (2 minutes, once).
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(120),
    params:
        python=python("data"),
        entry=tokenizer.entry(),
        options=tokenizer.options,
    shell:
        "RAYON_NUM_THREADS={threads} {params.python} scripts/tokenizer.py {output.manifest} --tokenizer {params.entry}"
        " {params.options} > {log} 2>&1"


rule tokenize:
    input:
        image=image("data"),
        source=sources.text_manifest,
        text=sources.text_parquet,
        tokenizer="<results>/tokenizer/manifest.json",
    output:
        tokens=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds",
        index=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds.index",
        metadata=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds.metadata",
        manifest="<results>/tokens/{source}/{task}.json",
    log:
        "<logs>/tokenize/{source}/{task}.log",
    benchmark:
        "<benchmarks>/tokenize/{source}/{task}.tsv"
    container:
        container("data")
    # More of both where a profile says so: set-threads (a process for each), set-resources. All processes of the job together keep to the
    # memory. A source of many tasks needs no second core: they run side by side, and each starts but once.
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(1440, "tokenize"),
    params:
        python=python("data"),
        options=tokenizer.shard_options,
    shell:
        "{params.python} scripts/tokenize.py --source {input.source} --tokenizer {input.tokenizer} {params.options}"
        " --threads {threads} --memory-mb {resources.mem_mb} {output.manifest} > {log} 2>&1"


# Thirty segments that each ask for thousands of shards would be most of the DAG: each asks for the few indexes of its sources.
rule index_tokens:
    input:
        image=image("data"),
        tokens=sources.token_manifests,
    output:
        "<results>/tokens/{source}.json",
    log:
        "<logs>/index_tokens/{source}.log",
    benchmark:
        "<benchmarks>/index_tokens/{source}.tsv"
    localrule: True
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
    params:
        python=python("data"),
        language=sources.language,
        tasks=sources.number_of_tasks,
        folder=path("<results>/tokens/{source}"),
    shell:
        "{params.python} scripts/index_tokens.py --source {wildcards.source} --language {params.language} --tasks {params.tasks}"
        " --folder {params.folder} {output} > {log} 2>&1"


# Of a source's first task: enough to see a loss fall.
rule tokenize_heldout:
    input:
        image=image("data"),
        source="<results>/sources/{source}/00000.json",
        text="<results>/sources/{source}/00000.heldout.parquet",
        tokenizer="<results>/tokenizer/manifest.json",
    output:
        tokens=f"<results>/tokens_heldout/{{source}}/00000.heldout_{tokenizer.shard_order}.ds",
        index=f"<results>/tokens_heldout/{{source}}/00000.heldout_{tokenizer.shard_order}.ds.index",
        metadata=f"<results>/tokens_heldout/{{source}}/00000.heldout_{tokenizer.shard_order}.ds.metadata",
        manifest="<results>/tokens_heldout/{source}/00000.json",
    log:
        "<logs>/tokenize_heldout/{source}.log",
    benchmark:
        "<benchmarks>/tokenize_heldout/{source}.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(60),
    params:
        python=python("data"),
        options=tokenizer.shard_options,
    shell:
        "{params.python} scripts/tokenize.py --heldout --source {input.source} --tokenizer {input.tokenizer} {params.options}"
        " --threads {threads} --memory-mb {resources.mem_mb} {output.manifest} > {log} 2>&1"
