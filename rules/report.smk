# From scores to tables, figures, the report and the RO-Crate.


rule tabulate:
    input:
        evidence=reporting.evidence(),
        reference="reference/tables.csv",
        image=image("data"),
    output:
        expand(
            "<results>/tables/{table}.csv",
            table=[
                "scores",
                "agentic",
                "training",
                "tokens",
                "mixture",
                "models",
                "replication",
                "contradictions",
                "paired",
                "signal",
                "contamination",
                "contaminated_items",
                "clean_scores",
                "exports",
                "export_speeds",
                "jobs",
                "throughput",
                "plan",
            ],
        ),
        reporting.published_tables(),
        "<results>/tables/manifest.json",
    log:
        "<logs>/tabulate/tabulate.log",
    benchmark:
        "<benchmarks>/tabulate/tabulate.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(30),
    params:
        python=python("data"),
        models=reporting.models_argument(),
        tasks=reporting.tasks_argument(),
        plan=reporting.plan_argument(),
        benchmarks=path("<benchmarks>"),
        folder=path("<results>/tables"),
    shell:
        "{params.python} scripts/tabulate.py {input.evidence} --models {params.models} --tasks {params.tasks} --plan {params.plan}"
        " --reference reference --benchmarks {params.benchmarks} --output {params.folder} > {log} 2>&1"


rule plot:
    input:
        tables=expand(
            "<results>/tables/{table}.csv",
            table=["scores", "training", "models", "replication", "exports"],
        ),
        image=image("data"),
    output:
        report(
            directory("<results>/figures"),
            patterns=["{figure}.svg"],
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/plot/plot.log",
    benchmark:
        "<benchmarks>/plot/plot.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(30),
    params:
        python=python("data"),
        tables=path("<results>/tables"),
    shell:
        "{params.python} scripts/plot.py --tables {params.tables} --output {output} > {log} 2>&1"


rule report:
    input:
        evidence=reporting.evidence(),
        tables=rules.tabulate.output,
        figures=rules.plot.output,
        ladder=reporting.ladder(),
        image=image("data"),
    output:
        report(
            "<results>/report.html", category="Report", labels={"page": "everything on one page"}
        ),
    log:
        "<logs>/report/report.log",
    benchmark:
        "<benchmarks>/report/report.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(30),
    params:
        python=python("data"),
        name=reader.paths.name,
        tables=path("<results>/tables"),
    shell:
        "{params.python} scripts/report.py {input.evidence} --name {params.name} --tables {params.tables}"
        " --figures {input.figures} --output {output} > {log} 2>&1"


rule provenance:
    input:
        evidence=reporting.evidence(),
        tables=rules.tabulate.output,
        figures=rules.plot.output,
        report=rules.report.output,
        config=workflow.configfiles[-1],
        citation="CITATION.cff",
        image=image("data"),
    output:
        "<results>/ro-crate/ro-crate-metadata.json",
    log:
        "<logs>/provenance/provenance.log",
    benchmark:
        "<benchmarks>/provenance/provenance.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(30),
    params:
        python=python("data"),
        name=reader.paths.name,
        tables=path("<results>/tables"),
        folder=path("<results>/ro-crate"),
    shell:
        "{params.python} scripts/provenance.py {input.evidence} --name {params.name} --config {input.config:q} --tables {params.tables}"
        " --figures {input.figures} --report {input.report} --output {params.folder} > {log} 2>&1"
