# Images, or the same locks as virtual environments (`software: venv`). All of it runs on the host.


# The list's name carries the lock's digest, so that another lock is another file and a date alone makes nothing again. (Snakemake drops
# what follows from the run when it has to make an `ancient` input again.)
rule wheelhouse:
    input:
        ancient("envs/{lock}.lock"),
    output:
        "<resources>/wheels/{lock}-py{version}-{digest}.json",
    log:
        "<logs>/wheelhouse/{lock}-py{version}-{digest}.log",
    benchmark:
        "<benchmarks>/wheelhouse/{lock}-py{version}-{digest}.tsv"
    wildcard_constraints:
        version=r"3\.\d+",
        digest="[0-9a-f]{12}",
    localrule: True
    resources:
        mem_mb=growing(1000),
        runtime=longer(120),
        disk_mb=images.download_mb,
    params:
        python=python("host"),
        folder=path("<resources>/wheels"),
        pip=images.pip_options,
    shell:
        "{params.python} scripts/wheelhouse.py --lock {input} --python {wildcards.version} --folder {params.folder} --disk {resources.disk_mb} {params.pip}"
        " --output {output} 2>&1 | tee {log}"


rule base_image:
    input:
        ancient(images.base_parts()),
    output:
        "<resources>/images/base-{digest}.sif",
    log:
        "<logs>/base_image/{digest}.log",
    benchmark:
        "<benchmarks>/base_image/{digest}.tsv"
    wildcard_constraints:
        digest="[0-9a-f]{12}",
    localrule: True
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=longer(30),
    params:
        python=python("host"),
        source=images.base_options,
    shell:
        "{params.python} scripts/base_image.py {params.source} --digest {wildcards.digest}"
        " --output {output} 2>&1 | tee {log}"


# The inputs are ancient: what they hold is in the digest, and an image of the same digest is never made again for a file's date.
# One thread: pip installs with one, which is most of a build. Two cores build two images at a time, or one beside the first text jobs.
rule image:
    input:
        lock=ancient(images.current_lock),
        build_lock=ancient("envs/build.lock"),
        wheels=ancient(images.wheel_list),
        build_wheels=ancient(images.build_wheel_list()),
        base=ancient(images.base_image),
        definition=ancient("containers/{name}.def"),
        install=ancient("containers/install.sh"),
    output:
        f"<resources>/images/{{name}}-{{digest}}.{images.suffix}",
    log:
        "<logs>/image/{name}-{digest}.log",
    benchmark:
        "<benchmarks>/image/{name}-{digest}.tsv"
    wildcard_constraints:
        name="data|train|posttrain|evaluate|export",
        digest="[0-9a-f]{12}",
    localrule: True
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(60),
        disk_mb=images.build_mb,
    params:
        python=python("host"),
        wheels=path("<resources>/wheels"),
    shell:
        "{params.python} scripts/image.py --name {wildcards.name} --definition {input.definition} --base {input.base} --lock {input.lock}"
        " --build-lock {input.build_lock} --wheels {params.wheels} --digest {wildcards.digest}"
        " --disk {resources.disk_mb} --output {output} 2>&1 | tee {log}"


rule environment:
    input:
        lock=ancient(images.current_lock),
        build_lock=ancient("envs/build.lock"),
        wheels=ancient(images.wheel_list),
        build_wheels=ancient(images.build_wheel_list()),
    output:
        "<resources>/venvs/{name}-{digest}/complete",
    log:
        "<logs>/environment/{name}-{digest}.log",
    benchmark:
        "<benchmarks>/environment/{name}-{digest}.tsv"
    wildcard_constraints:
        name="data|train|posttrain|evaluate|export",
        digest="[0-9a-f]{12}",
    localrule: True
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=longer(60),
        disk_mb=images.build_mb,
    params:
        python=python("host"),
        wheels=path("<resources>/wheels"),
    shell:
        "{params.python} scripts/environment.py --lock {input.lock} --build-lock {input.build_lock} --wheels {params.wheels}"
        " --disk {resources.disk_mb} --output {output} 2>&1 | tee {log}"


rule images:
    input:
        images.all(),
    localrule: True
