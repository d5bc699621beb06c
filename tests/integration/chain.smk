# The text of tests/integration/chain.yaml that no package carries. It has to be there before that configuration is read.


include: "../../rules/common.smk"
include: "../../rules/images.smk"


rule chain_text:
    input:
        image=image("data"),
    output:
        "results/chain_text/eng/00000.parquet",
        "results/chain_text/ita/00000.parquet",
        "results/chain_text/talk.jsonl",
    container:
        container("data")
    params:
        python=python("data"),
    shell:
        "{params.python} tests/integration/chain_text.py results/chain_text"
