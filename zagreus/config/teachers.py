"""The teacher of a `distill` stage, checked on the host before any job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zagreus.config.checkpoints import checkpoint_of, checkpoints
from zagreus.errors import InputError

Node = tuple[str, str]  # model, checkpoint


def check_teacher(config: Mapping[str, Any], name: str, index: int) -> None:
    """Raise `InputError` where a stage has a teacher that it cannot learn from, or needs one.

    Args:
        config: the whole configuration.
        name: the model.
        index: the stage's place in `posttrain`.
    """
    stage, where = config["models"][name]["posttrain"][index], f"models.{name}.posttrain.{index}"
    if stage["stage"] != "distill":
        for key in ("teacher", "teacher_correct"):
            if key in stage:
                raise InputError(f"{where}.{key}: the stage is {stage['stage']}; only distill has")
        return
    if "teacher" not in stage:
        raise InputError(f"{where}: no teacher; distill learns from a model")
    teacher = _teacher(config, stage, f"{where}.teacher")
    if teacher == (name, "distill"):
        raise InputError(f"{where}.teacher: the teacher is the stage itself; expected another one")
    if teacher in _origins(config, (name, "distill"), teachers=False):
        raise InputError(
            f"{where}.teacher: the student starts from {'/'.join(teacher)}; expected another model"
        )
    seen, waiting = set[Node](), [teacher]
    for node in waiting:  # origins are added while the list is read
        if node == (name, "distill"):
            raise InputError(
                f"{where}.teacher: {'/'.join(teacher)} is made from {name}/distill, and would "
                "teach it"
            )
        if node not in seen:
            seen.add(node)
            waiting += _origins(config, node)


def _teacher(config: Mapping[str, Any], stage: Mapping[str, Any], where: str) -> Node:
    teacher = stage["teacher"]
    name = teacher if isinstance(teacher, str) else teacher["model"]
    known = {**config["models"], **config["baselines"]}
    if name not in known:
        raise InputError(f"{where}: unknown model {name!r}, expected one of {', '.join(known)}")
    model, checkpoint = checkpoint_of(config, teacher)
    made = checkpoints(known[model])
    if checkpoint not in made:
        raise InputError(
            f"{where}: unknown checkpoint {checkpoint!r} of {model}, expected one of "
            f"{', '.join(made)}"
        )
    return model, checkpoint


def _origins(config: Mapping[str, Any], node: Node, teachers: bool = True) -> Iterator[Node]:
    """Yield what a checkpoint is made from: the one before it, its parent's last, its teacher."""
    model, checkpoint = node
    entry = config["models"].get(model, {})
    parent = entry.get("from") or entry.get("pretrain", {}).get("from")
    before = checkpoints(entry) if entry else []
    index = before.index(checkpoint) if checkpoint in before else 0
    if index:
        yield model, before[index - 1]
    elif isinstance(parent, str) and parent in config["models"]:
        yield parent, checkpoints(config["models"][parent])[-1]
    stages = entry.get("posttrain", ())
    if teachers and stages and "teacher" in stages[index]:
        yield _teacher(config, stages[index], f"models.{model}.posttrain.{index}.teacher")
