# The unit tests, each folder in the image that its code runs in: `make unit`.


include: "../rules/common.smk"
include: "../rules/images.smk"


for name in ("data", "train", "posttrain", "evaluate"):

    rule:
        name:
            f"unit_{name}"
        input:
            image=image(name),
        container:
            container(name)
        params:
            python=python(name),
            tests=f"tests/unit/{name}",
        shell:
            "{params.python} -m pytest -q -p no:cacheprovider {params.tests}"
