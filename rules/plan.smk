# What a run needs, before it runs: `bin/zagreus plan`. On the host, so that nothing has to be there yet.


include: "common_plan.smk"


# Prints, so that it always runs and has no log.
rule plan:
    localrule: True
    params:
        python=python("host"),
        # A function: written for this job alone, not whenever the workflow is read.
        request=lambda wildcards: plan_request(),
        results=path("<results>"),
        benchmarks=path("<benchmarks>"),
    shell:
        "{params.python} scripts/plan.py --request {params.request}"
        " --results {params.results} --benchmarks {params.benchmarks}"
