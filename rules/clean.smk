# Optional, for sources with an entry `clean`: repeated documents over all tasks of a source (deduplicate), and each task without what the
# entry leaves out (clean).


rule deduplicate:
    input:
        image=image("data"),
        sources=sources.deduplicated,
    output:
        rows="<results>/clean/{source}.parquet",
        manifest="<results>/clean/{source}.json",
    log:
        "<logs>/deduplicate/{source}.log",
    benchmark:
        "<benchmarks>/deduplicate/{source}.tsv"
    container:
        container("data")
    # More where a profile says so: set-threads. Signatures are made task by task, compared bucket by bucket (14).
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(1440, "deduplicate"),
    params:
        python=python("data"),
        method=sources.deduplicate_method,
        language=sources.language,
    shell:
        "{params.python} scripts/deduplicate.py --name {wildcards.source} --method {params.method} --language {params.language}"
        " --threads {threads} {output.manifest} --sources {input.sources} > {log} 2>&1"


rule clean:
    input:
        image=image("data"),
        source="<results>/sources/{source}/{task}.json",
        duplicates=sources.duplicates,
        wheel=sources.clean_wheel,
    output:
        text="<results>/clean/{source}/{task}.parquet",
        manifest="<results>/clean/{source}/{task}.json",
    log:
        "<logs>/clean/{source}/{task}.log",
    benchmark:
        "<benchmarks>/clean/{source}/{task}.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(720, "clean"),
    params:
        python=python("data"),
        entry=sources.clean_entry,
        options=sources.clean_options,
    shell:
        "{params.python} scripts/clean.py --source {input.source} --clean {params.entry} {params.options} {output.manifest} > {log} 2>&1"
