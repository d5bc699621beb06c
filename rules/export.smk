# Other formats of the models for other runtimes, each proved in its runtime against the fp32 model.


# One for all formats of a checkpoint: the jobs of the formats need no torch.
rule export_reference:
    input:
        image=image("train"),
        model="<results>/models/{model}/{checkpoint}/manifest.json",
        texts=exports.texts,
    output:
        "<results>/exports/{model}/{checkpoint}/reference/manifest.json",
    log:
        "<logs>/export_reference/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/export_reference/{model}/{checkpoint}.tsv"
    container:
        container("train")
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(60, "export_reference"),
    params:
        python=python("train"),
        texts=exports.texts_argument,
    shell:
        "{params.python} scripts/export_reference.py --model {input.model} --texts {params.texts}"
        " --threads {threads} --output {output} > {log} 2>&1"


rule export:
    input:
        image=image("export"),
        model="<results>/models/{model}/{checkpoint}/manifest.json",
        reference="<results>/exports/{model}/{checkpoint}/reference/manifest.json",
    output:
        "<results>/exports/{model}/{checkpoint}/{format}/manifest.json",
    log:
        "<logs>/export/{model}/{checkpoint}/{format}.log",
    benchmark:
        "<benchmarks>/export/{model}/{checkpoint}/{format}.tsv"
    container:
        container("export")
    # A speed is measured with this many threads and with one: the cores are the job's.
    threads: exports.threads
    resources:
        mem_mb=growing(4000),
        runtime=longer(60, "export"),
    params:
        python=python("export"),
        limits=exports.limits_argument,
    shell:
        "{params.python} scripts/export.py --model {input.model} --reference {input.reference}"
        " --format {wildcards.format} --limits {params.limits} --threads {threads}"
        " --output {output} > {log} 2>&1"


rule exports:
    input:
        exports.all(),
    localrule: True
