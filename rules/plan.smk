# What a run needs, before it runs: `bin/zagreus plan`. On the host, so that nothing has to be there yet.


include: "common_plan.smk"


# Prints, so that it always runs and has no log.
rule plan:
    localrule: True
    params:
        python=python("host"),
        # Functions: written out for this job alone, not whenever the workflow is read.
        config=lambda wildcards: dumps(config),
        files=lambda wildcards: dumps(plan_files()),
        targets=lambda wildcards: dumps(plan_targets()),
        results=path("<results>"),
        benchmarks=path("<benchmarks>"),
    shell:
        "{params.python} scripts/plan.py --config {params.config} --files {params.files} --targets {params.targets}"
        " --results {params.results} --benchmarks {params.benchmarks}"
