# Artifacts made elsewhere, put in their places (config: adopt). Each has a rule of its own in place of the one that would have made it, and
# that rule asks for nothing that comes before: so a dry-run shows what comes after, and what the artifact is stands in the config.


ruleorder: adopt_tokens > tokenize
ruleorder: adopt_checkpoint > pretrain
ruleorder: adopt_checkpoint > render_recipe
ruleorder: adopt_model > convert
ruleorder: adopt_model > posttrain


# On the host: nothing but the standard library and numpy, and links to the files instead of copies.
rule adopt_tokens:
    input:
        tokenizer="<results>/tokenizer/manifest.json",
    output:
        tokens=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds",
        index=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds.index",
        metadata=f"<results>/tokens/{{source}}/{{task}}_{tokenizer.shard_order}.ds.metadata",
        manifest="<results>/tokens/{source}/{task}.json",
    log:
        "<logs>/adopt_tokens/{source}/{task}.log",
    benchmark:
        "<benchmarks>/adopt_tokens/{source}/{task}.tsv"
    wildcard_constraints:
        source=adopted.pattern("tokens"),
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        python=python("host"),
        options=adopted.tokens_options,
        order=tokenizer.shard_order,
    shell:
        "{params.python} scripts/adopt_tokens.py {params.options} --source {wildcards.source} --task $((10#{wildcards.task}))"
        " --name {wildcards.task}_{params.order} --tokenizer {input.tokenizer} {output.manifest} > {log} 2>&1"


rule adopt_checkpoint:
    input:
        image=image("train"),
        recipe=ancient(adopted.recipe),
        tokenizer="<results>/tokenizer/manifest.json",
    output:
        manifest="<results>/pretrain/{place}.json",
        log="<results>/pretrain/{place}.jsonl",
        recipe="<results>/pretrain/{place}.yaml",
    log:
        "<logs>/adopt_checkpoint/{place}.log",
    benchmark:
        "<benchmarks>/adopt_checkpoint/{place}.tsv"
    wildcard_constraints:
        place=adopted.pattern("pretrain"),
    container:
        container("train")
    resources:
        mem_mb=16000,
        runtime=120,
    params:
        python=python("train"),
        options=adopted.checkpoint_options,
        recipe=adopted.recipe_fingerprint,
        mixture=adopted.mixture,
        tokens=path("<results>/tokens"),
        checkpoints=adopted.checkpoints,
    shell:
        "{params.python} scripts/adopt_checkpoint.py {params.options} --recipe {input.recipe} --mixture {params.mixture}"
        " --tokenizer {input.tokenizer} --tokens {params.tokens} --checkpoints {params.checkpoints} --output {output.manifest} > {log} 2>&1"


rule adopt_model:
    input:
        image=image("train"),
    output:
        "<results>/models/{place}/manifest.json",
    log:
        "<logs>/adopt_model/{place}.log",
    benchmark:
        "<benchmarks>/adopt_model/{place}.tsv"
    wildcard_constraints:
        place=adopted.pattern("models"),
    container:
        container("train")
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        python=python("train"),
        options=adopted.model_options,
    shell:
        "HF_HUB_OFFLINE=0 {params.python} scripts/adopt_model.py {params.options} --output {output} > {log} 2>&1"


rule adopt:
    input:
        adopted.manifests(),
    localrule: True
