"""The stage `distill`: TRL's loss against another formula, runs that repeat, what is refused."""

import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import ANSWERS, QUESTIONS, finish, make_base, make_recipe, make_rows, start

from zagreus.errors import InputError
from zagreus.manifest import read_manifest, sha256_file, write_manifest
from zagreus.posttraining.distillation.prompts import Prompt, read_prompts
from zagreus.posttraining.distillation.recipe_file import load_distillation
from zagreus.posttraining.distillation.teacher import answers_right, check_tokenizer
from zagreus.posttraining.templates import named_template

SHIPPED = "recipes/posttrain/test_distill.yaml"
# Two prompts of every question are wrong in the data: the teacher does not give their answer.
ROWS, WRONG = 72, 6


CHATML = named_template("chatml")


def make_teacher(base: Path, folder: Path, prompts: list[Prompt]) -> Path:
    """Train the base to give the answers of its prompts, and return the manifest."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    longest = max(len(prompt.prompt) + len(prompt.answer) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, prompt in enumerate(prompts):
        whole = torch.tensor(prompt.prompt + prompt.answer)
        ids[row, : len(whole)] = whole
        labels[row, len(prompt.prompt) : len(whole)] = torch.tensor(prompt.answer)
    for _ in range(80):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    write_manifest(
        folder / "manifest.json",
        kind="model",
        name="teacher/1",
        outputs=[folder / "model.safetensors"],
    )
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student, rows with held-out rows, a teacher that answers most of them right."""
    folder = tmp_path_factory.mktemp("inputs")
    base = make_base(folder / "base")
    rows = make_rows(folder / "chat" / "rows.json", "sft", ROWS)
    file = rows.with_suffix(".jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    right = read_prompts(
        file, {}, {"max_length": 128, "max_completion_length": 8}, base.parent, CHATML
    )
    teacher = make_teacher(base.parent, folder / "teacher", right.kept)
    for line in lines[:WRONG]:
        line["conversation"][-1]["content"] = "Un'altra risposta."
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    heldout = [
        {
            "id": f"h{number}/0",
            "conversation": [
                {"role": "user", "content": f"{QUESTIONS[number % 6]} {number + 100}"},
                {"role": "assistant", "content": ANSWERS[number % 6]},
            ],
        }
        for number in range(24)
    ]
    file.with_suffix(".heldout.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in heldout)
    )
    recipe = make_recipe(
        folder / "distill.yaml",
        SHIPPED,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        max_steps=20,
    )
    return {"base": base, "rows": rows, "teacher": teacher, "recipe": recipe}


def begin(run: Path, inputs: dict[str, Path], *further: str, **changed: Path) -> Any:
    used = {**inputs, **changed}
    teacher = ("--teacher", str(used["teacher"]), *further)
    return start(run, "distill", used["recipe"], used["base"], used["rows"], *teacher)


@pytest.fixture(scope="module")
def done(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an undisturbed run, and what it wrote."""
    run = tmp_path_factory.mktemp("distill")
    status, written = finish(begin(run, inputs, "--teacher-correct"))
    assert status == 0, written[-3000:]
    return run, written


def weights(run: Path) -> str:
    return sha256_file(run / "models" / "distill" / "model.safetensors")


def test_the_divergence_is_the_sum_over_the_vocabulary() -> None:
    import torch

    from zagreus.posttraining.distillation.divergence import answer_mask, reverse_kl

    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(2, 3, 7, generator=generator) for _ in range(2))
    answers = torch.tensor([[5, 4, 4], [1, 2, 3]])
    answered = answer_mask(answers, stop=4)
    assert answered.tolist() == [[True, True, False], [True, True, True]]
    expected = 0.0
    for row in range(2):
        for token in range(3):
            if answered[row, token]:
                p, q = (
                    [math.exp(x) for x in logits[row, token].tolist()]
                    for logits in (student, teacher)
                )
                expected += sum(
                    a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
                    for a, b in zip(p, q, strict=True)
                )
    total, count = reverse_kl(student, teacher, answered)
    assert int(count) == 5 and float(total) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loss_is_the_reverse_kl_of_the_students_tokens(
    inputs: dict[str, Path], tmp_path: Path, accumulation: int
) -> None:
    """TRL's own loss of a step, with prompts of different lengths and answers that end early."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig

    from zagreus.posttraining.distillation.divergence import answer_mask, reverse_kl
    from zagreus.posttraining.distillation.trainer import load_model, trainer_of

    recipe = load_distillation(inputs["recipe"])
    recipe |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulation}
    recipe |= {"max_steps": 1, "learning_rate": 1e-9, "max_completion_length": 16}
    tokenizer = AutoTokenizer.from_pretrained(inputs["base"].parent)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    stop = tokenizer.eos_token_id
    # The student answers often in part, and ends some turns: it is a teacher moved half way.
    student, other = (load_model(inputs[name].parent, False) for name in ("base", "teacher"))
    teacher = load_model(inputs["teacher"].parent, False)
    with torch.no_grad():
        for weight, moved in zip(student.parameters(), other.parameters(), strict=True):
            weight.lerp_(moved, 0.8)
    student.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=stop)
    rows = inputs["rows"].with_suffix(".jsonl")
    prompts = read_prompts(rows, {}, recipe, inputs["base"].parent, CHATML).kept
    trainer = trainer_of(recipe, student, teacher, tokenizer, prompts, tmp_path)
    seen, losses, loss_of = [], [], trainer.compute_loss

    def watched(model: Any, batch: Any, *rest: Any, **named: Any) -> Any:
        loss = loss_of(model, batch, *rest, **named)
        seen.append({key: value.clone() for key, value in batch.items()})
        losses.append(float(loss.detach()))
        return loss

    trainer.compute_loss = watched
    trainer.train()
    total, tokens, lengths = 0.0, 0, set()
    for batch in seen:
        width = batch["prompts"].shape[1]
        answered = answer_mask(batch["input_ids"][:, width:], stop)
        lengths.update(answered.sum(1).tolist())
        assert torch.equal(answered, batch["labels"][:, width:] != -100)
        # Row by row, without padding: nothing of the trainer's masks is used.
        for row in range(len(answered)):
            prompt = batch["prompts"][row][batch["prompt_attention_mask"][row].bool()]
            answer = batch["input_ids"][row, width:][answered[row]]
            whole = torch.cat([prompt, answer])[None]
            with torch.no_grad():
                logits = [
                    model(whole).logits[:, len(prompt) - 1 : -1] for model in (student, teacher)
                ]
            kl, count = reverse_kl(*logits, torch.ones(1, len(answer)))
            total, tokens = total + float(kl), tokens + int(count)
    assert len(seen) == accumulation and len(lengths) > 1 and min(lengths) < 16
    assert sum(losses) == pytest.approx(total / tokens, rel=1e-5)


def test_the_manifest_has_the_teacher_and_the_divergence(
    done: tuple[Path, str], inputs: dict[str, Path]
) -> None:
    run, written = done
    manifest = read_manifest(run / "models" / "distill" / "manifest.json", kind="model")
    assert (manifest["name"], manifest["teacher"]) == ("tiny/distill", "teacher/1")
    assert [item["sha256"] for item in manifest["inputs"]] == [
        sha256_file(inputs[name]) for name in ("base", "teacher", "rows", "recipe")
    ]
    kl = manifest["heldout_kl"]
    assert kl["prompts"] == 24 and kl["after"] < 0.95 * kl["before"]
    correct = manifest["teacher_correct"]
    assert correct["kept"] + correct["dropped"] == ROWS and correct["dropped"] >= WRONG
    assert manifest["rows"] == correct["kept"] >= ROWS // 2
    assert f"the teacher answers {correct['kept']} of {ROWS} prompts right" in written
    lines = [json.loads(line) for line in (run / "work/distill/log.jsonl").read_text().splitlines()]
    assert lines[0]["teacher"] == "teacher/1" and [line["step"] for line in lines[1:]] == list(
        range(1, 21)
    )
    assert {"loss", "learning_rate", "grad_norm", "answer_tokens"} <= set(lines[1])
    card = (run / "models" / "distill" / "README.md").read_text()
    assert (
        "on-policy distillation from `teacher/1`, with TRL" in card
        and "KL from the teacher" in card
    )


def test_the_student_ends_its_turns(done: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = done[0] / "models" / "distill"
    tokenizer, model = (
        kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForCausalLM)
    )
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.config.use_cache and tokenizer.chat_template


def test_the_same_hash_twice(
    done: tuple[Path, str], inputs: dict[str, Path], tmp_path: Path
) -> None:
    status, written = finish(begin(tmp_path, inputs, "--teacher-correct"))
    assert status == 0, written[-3000:]
    assert weights(tmp_path) == weights(done[0])
    log = "work/distill/log.jsonl"
    assert (tmp_path / log).read_bytes() == (done[0] / log).read_bytes()


@pytest.mark.parametrize(("number", "step"), [(signal.SIGKILL, 4), (signal.SIGTERM, 8)])
def test_a_resumed_run_is_equal_to_an_undisturbed_one(
    done: tuple[Path, str], inputs: dict[str, Path], tmp_path: Path, number: int, step: int
) -> None:
    """In the first epoch and, wherever the signal comes, in a later one."""
    process = begin(tmp_path, inputs, "--teacher-correct")
    while process.poll() is None and not list(
        tmp_path.glob(f"work/distill/*/checkpoints/checkpoint-{step}/trainer_state.json")
    ):
        time.sleep(0.005)
    os.killpg(process.pid, number)
    status, written = finish(process)
    assert status == (143 if number == signal.SIGTERM else -signal.SIGKILL), written[-3000:]
    status, written = finish(begin(tmp_path, inputs, "--teacher-correct"))
    assert status == 0, written[-3000:]
    assert weights(tmp_path) == weights(done[0])
    log = "work/distill/log.jsonl"
    assert (tmp_path / log).read_bytes() == (done[0] / log).read_bytes()


def test_right_answers_are_the_greedy_ones(inputs: dict[str, Path]) -> None:
    import torch

    from zagreus.posttraining.distillation.trainer import load_model

    teacher = load_model(inputs["teacher"].parent, False)
    recipe = {"max_length": 128, "max_completion_length": 8}
    rows = inputs["rows"].with_suffix(".jsonl")
    prompts = read_prompts(rows, {}, recipe, inputs["base"].parent, CHATML).kept
    stop = prompts[0].answer[-1]
    greedy = []
    for item in prompts:
        written = teacher.generate(
            torch.tensor([item.prompt]),
            attention_mask=torch.ones(1, len(item.prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=len(item.answer),
            eos_token_id=stop,
            pad_token_id=stop,
        )
        greedy.append(written[0, len(item.prompt) :].tolist() == item.answer)
    assert answers_right(teacher, prompts, 8, stop) == greedy
    assert greedy[:WRONG] == [False] * WRONG and sum(greedy) > ROWS // 2


def test_a_teacher_that_cannot_teach_is_refused_in_one_line(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    other = make_base(tmp_path / "other", ("<|im_start|>", "<|im_end|>", "<|more|>"))
    with pytest.raises(InputError, match="another tokenizer .* added_tokens .* expected the same"):
        check_tokenizer(inputs["base"].parent, other.parent)
    for teacher, words in (
        (other, "another tokenizer than the student's"),
        (inputs["base"], "the teacher is the student; expected another model"),
        (tmp_path / "none.json", "none.json"),
    ):
        status, written = finish(begin(tmp_path / "run", inputs, teacher=teacher))
        assert status == 2 and len(written.strip().splitlines()) == 1 and words in written, written
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"max_completion_lenght": 8},
            "unknown key 'max_completion_lenght', did you mean 'max_comp",
        ),
        ({"beta": 2}, "beta: found 2, expected from 0 to 1"),
        ({"num_train_epochs": 1}, "expected max_steps or num_train_epochs, one of them"),
        ({"max_length": 8}, "max_length: found 8, expected more than max_completion_length"),
        ({"bf16": "auto"}, "bf16: found 'auto', expected true or false"),
        ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type: found 'cosin', expected one of"),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    recipe = make_recipe(tmp_path / "recipe.yaml", SHIPPED, **change)
    with pytest.raises(InputError, match=words):
        load_distillation(recipe)


@pytest.mark.parametrize("name", ["test", "demo", "nesso2"])
def test_shipped_recipes_are_trls(name: str, tmp_path: Path) -> None:
    """TRL takes every key, and samples the whole distribution."""
    from trl.experimental.distillation import DistillationConfig

    recipe = load_distillation(f"recipes/posttrain/{name}_distill.yaml")
    assert recipe["beta"] == recipe["temperature"] == 1.0 and recipe.get("top_p", 1.0) == 1.0
    made = DistillationConfig(output_dir=str(tmp_path), use_cpu=True, **{**recipe, "bf16": False})
    assert all(
        getattr(made, key) == value for key, value in recipe.items() if key not in ("bf16", "optim")
    )
