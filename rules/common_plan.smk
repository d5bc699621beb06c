# What the plan asks of the configuration, and the limits that it holds.
import json
import sys
from pathlib import Path

from zagreus.atomic import atomic_file
from zagreus.plan import fetch_jobs, job_plan, source_plan, training_plan
from zagreus.totals import totals


def plan_files():
    """The files of the rules that no formula covers, in groups RULE/NAME; the last checkpoint of a base model is a group of its own, as what
    follows from the model asks for it alone."""
    files = {f"fetch_chat/{name}": [f"<results>/chat/{name}.json"] for name in config["chat"]}
    files |= {
        f"fetch_evaluation/{name}": [f"<results>/evaluation_data/{name}.json"]
        for name in evaluation_sets()
    }
    for name in [*config["models"], *baselines()]:
        made = [model_manifest(name, checkpoint) for checkpoint in checkpoints(name)]
        if name in bases():
            files[f"convert/{name}"] = made[:-1]
            files[f"convert/{name}/last"] = made[-1:]
        else:
            files[f"{'posttrain' if name in posttrained() else 'fetch_model'}/{name}"] = made
        files[f"evaluate/{name}"] = scores(name)
        files[f"sample/{name}"] = samples(name)
    files["contamination/all"] = contaminations()
    return {group: [path(file) for file in names] for group, names in files.items()}


def plan_need(names=(), jobs=(), tokens=(), data=(), last=False):
    """What makes models, groups of jobs, sources' tokens and evaluation data: `text` (tasks by source), `tokens` (sources), `train` (base
    models) and `jobs` (groups of plan_files). A base model of which the `last` checkpoint alone is asked for is converted once.
    """
    train, tokens, jobs, text = (
        [],
        list(tokens),
        [*jobs, *(f"fetch_evaluation/{name}" for name in data)],
        {},
    )
    waiting = [(name, last) for name in names]
    for name, alone in waiting:  # what a model begins with is added while the list is read
        origin = made_from(config["models"][name])
        if name in bases():
            train.append(name)
            tokens += config["models"][name]["pretrain"]["mixture"]
            jobs += (
                []
                if alone is None
                else (
                    [f"convert/{name}/last"]
                    if alone
                    else [f"convert/{name}", f"convert/{name}/last"]
                )
            )
            waiting += [(origin, None)] if origin else []
        else:
            jobs += [
                f"posttrain/{name}",
                *(f"fetch_chat/{stage['data']}" for stage in config["models"][name]["posttrain"]),
            ]
            waiting.append((origin, True))
    for source in [*tokens, *(config["tokenizer"].get("sources", ()))]:
        # Of adopted tokens the first task's text is read, for the model cards.
        text[source] = 1 if source in adopted("tokens") else config["sources"][source]["tasks"]
    for name in data:
        entry = config["evaluation_data"][name]
        for source in entry.get("sources", ()):
            text[source] = max(
                text.get(source, 0),
                min(config["sources"][source]["tasks"], entry.get("tasks", 99999)),
            )
        jobs += [f"fetch_chat/{chat}" for chat in entry.get("chat", ())]
    return {
        "text": text,
        "tokens": sorted(set(tokens)),
        "train": sorted(set(train)),
        "jobs": sorted(set(jobs)),
    }


def plan_targets():
    """What each target asks for, alone."""
    models, named = list(config["models"]), [*config["models"], *baselines()]
    asked = {
        name: sorted(
            {task["data"] for suite in config["evaluations"] for task in suite_tasks(name, suite)}
        )
        for name in named
    }
    scored = [
        *(f"evaluate/{name}" for name in named),
        *(f"fetch_model/{name}" for name in baselines()),
    ]
    everything = [*scored, *(f"sample/{name}" for name in named), "contamination/all"]
    every, chats = list(config["sources"]), [f"fetch_chat/{name}" for name in config["chat"]]
    needs = {
        name: plan_need([name], [f"evaluate/{name}", f"sample/{name}"], data=asked[name])
        for name in models
    }
    needs["tokens"] = plan_need(tokens=every)
    needs["bases"] = plan_need(bases(), last=True)
    needs["evals"] = plan_need(models, scored, data=evaluation_sets())
    needs["stage"] = plan_need(
        jobs=[*chats, *(f"fetch_model/{name}" for name in baselines())], data=evaluation_sets()
    )
    needs["stage"]["text"] = {source: config["sources"][source]["tasks"] for source in every}
    needs["report"] = plan_need(models, everything, data=evaluation_sets())
    needs["all"] = plan_need(models, [*everything, *chats], data=evaluation_sets())
    return needs


def plan_request():
    """Write what the plan is made of to a file, and return the file."""
    request = Path(".snakemake/plan.json")
    with atomic_file(request) as partial:
        partial.write_text(
            json.dumps(
                {"config": config, "files": plan_files(), "targets": plan_targets()},
                ensure_ascii=False,
            )
        )
    return str(request)


def check_budget():
    """Stop a run whose configuration still needs more than its limits, whatever the target."""
    if (
        config.get("over_budget")
        or "plan" in sys.argv
        or not any(key.startswith("max_") for key in config.get("plan", {}))
    ):
        return
    results, benchmarks = Path(path("<results>")), Path(path("<benchmarks>"))
    sources = source_plan(config, results)
    jobs = [fetch_jobs(sources, benchmarks), *job_plan(config, plan_files(), benchmarks)]
    over = totals(config, sources, training_plan(config, results), jobs).exceeded(config)
    if over:
        sys.exit(f"error: {over}; with --config over_budget=True it starts all the same")
