# Checkpoints on a model hub (`publish` in the config): a revision each, as soon as it is converted. The target `published` asks for all of
# them; no other target does, so that a hub that is away keeps no run from its end.


rule publish:
    input:
        image=image("data"),
        model="<results>/models/{model}/{checkpoint}/manifest.json",
    output:
        "<results>/published/{model}/{checkpoint}.json",
    log:
        "<logs>/publish/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/publish/{model}/{checkpoint}.tsv"
    container:
        container("data")
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(120, "publish"),
    params:
        python=python("data"),
        folder=path("<results>/models/{model}/{checkpoint}"),
        target=publishing.target,
    shell:
        "{params.python} scripts/publish.py {params.folder} {params.target} --receipt {output} > {log} 2>&1"


rule published:
    input:
        publishing.receipts,
