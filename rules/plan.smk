# What a run needs, before it runs: `bin/zagreus plan`. On the host, so that nothing has to be there yet.


# Prints, so that it always runs and has no log.
rule plan:
    localrule: True
    params:
        python=python("host"),
        request=plan.request,
        results=path("<results>"),
        benchmarks=path("<benchmarks>"),
    shell:
        "{params.python} scripts/plan.py --request {params.request}"
        " --results {params.results} --benchmarks {params.benchmarks}"
