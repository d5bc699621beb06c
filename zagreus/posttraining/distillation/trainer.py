"""One run of TRL's DistillationTrainer on a rendered job, in this process.

    python -P -m zagreus.posttraining.distillation.trainer JOB

is one of several under torchrun. Sampling, loss and steps are TRL's; the order of the prompts and
what a resumed run skips are set here, so that it repeats an undisturbed one exactly.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zagreus.errors import run
from zagreus.posttraining.capabilities import has_gpu
from zagreus.posttraining.distillation.prompts import Prompt, load_prompts
from zagreus.posttraining.distillation.teacher import left_padded
from zagreus.posttraining.stop import STOP

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel
    from trl.experimental.distillation import DistillationTrainer

IGNORED = -100


def load_model(folder: Path, bf16: bool) -> PreTrainedModel:
    """Return the model of a folder in evaluation mode, on this process's GPU where there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        attn_implementation="sdpa",
        local_files_only=True,
    )
    # Torchrun numbers the processes of a node; a process alone takes the first GPU.
    return model.eval().to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if has_gpu() else "cpu")


def sampling(recipe: Mapping[str, Any], stop: int) -> GenerationConfig:
    """Return how the student answers.

    Args:
        recipe: the recipe.
        stop: id of the token that ends a turn; it pads too.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=recipe["max_completion_length"],
        do_sample=True,
        temperature=float(recipe["temperature"]),
        top_k=recipe.get("top_k", 0),
        top_p=float(recipe.get("top_p", 1.0)),
        eos_token_id=stop,
        pad_token_id=stop,
    )


class Collator:
    """Makes a batch of prompts in the form that TRL's trainer reads.

    Args:
        pad: id that fills short rows.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Return the tensors of a batch, (prompts, longest prompt) each; nothing has a label."""
        import torch

        ids, mask = left_padded([item.prompt for item in prompts], self.pad, "cpu")
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.full_like(ids, IGNORED),
            "prompts": ids.clone(),
            "prompt_attention_mask": mask.clone(),
        }


def trainer_of(
    recipe: Mapping[str, Any],
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    output: Path,
) -> DistillationTrainer:
    """Return TRL's trainer, with an order of the prompts that a resumed run repeats.

    Two things of TRL 1.9.0 keep a resumed run from the order of an undisturbed one. Its data loader
    repeats a batch for each accumulated step outside the sampler, where skipping does not see it.
    And the sampler's generator begins anew, whatever the epoch. So the sampler repeats, as in TRL's
    GRPO, and the seed of an epoch's order is seed + epoch.

    Args:
        recipe: keys of DistillationConfig.
        student: the model that is trained; its generation config says what ends a turn.
        teacher: the model that judges.
        tokenizer: of both; its padding token fills short rows.
        prompts: what the student answers.
        output: folder of the rolling checkpoints, and of the trained model.
    """
    from transformers import TrainerCallback
    from trl.experimental.distillation import DistillationConfig, DistillationTrainer

    class OrderCallback(TrainerCallback):
        def __init__(self) -> None:
            self.sampler: Any = None

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.sampler.generator.manual_seed(args.seed + int(state.epoch or 0))

    order = OrderCallback()

    class Resumable(DistillationTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            sampler = super()._get_train_sampler(dataset)
            sampler.repeat_count = self.args.gradient_accumulation_steps
            order.sampler = sampler
            return sampler

        def get_train_dataloader(self) -> Any:
            return super().get_train_dataloader().dataloader

    gpu = has_gpu()
    arguments = DistillationConfig(
        # TRL's defaults are others: a truncated distribution (top_p 0.95), checkpointing.
        **{"top_p": 1.0, "top_k": 0, "gradient_checkpointing": False, "bf16": False, **recipe},
        output_dir=str(output),
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        save_strategy="steps",
        report_to="none",
    )
    return Resumable(
        model=student,
        teacher_model=teacher,
        args=arguments,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=list(prompts),
        processing_class=tokenizer,
        callbacks=[order],
    )


def run_job(job: Path) -> None:
    """Train as a rendered job says, from its last checkpoint where there is one.

    SystemExit after a signal, once a checkpoint is saved.

    Args:
        job: JSON with `base`, `teacher`, `prompts`, `output`, `recipe`, `template` (text) and
            `stop` (token).
    """
    from transformers import AutoTokenizer, GenerationConfig
    from transformers.trainer_utils import get_last_checkpoint

    from zagreus.posttraining.callbacks import ReportCallback, StopCallback

    task = json.loads(job.read_text(encoding="utf-8"))
    recipe, base, output = task["recipe"], Path(task["base"]), Path(task["output"])
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    tokenizer.chat_template = task["template"]
    tokenizer.eos_token = tokenizer.pad_token = task["stop"]
    # The student keeps fp32 weights; `bf16` computes in bf16 with them.
    student = load_model(base, bf16=False)
    teacher = load_model(Path(task["teacher"]), bf16=recipe.get("bf16", False))
    stop = tokenizer.eos_token_id
    student.generation_config = GenerationConfig(eos_token_id=stop, pad_token_id=stop)
    prompts = load_prompts(Path(task["prompts"]))
    trainer = trainer_of(recipe, student, teacher, tokenizer, prompts, output)
    report = ReportCallback()
    loss_of = trainer.compute_loss

    def counted(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        report.count(inputs)
        return loss_of(model, inputs, *rest, **named)

    trainer.compute_loss = counted
    trainer.add_callback(StopCallback())
    trainer.add_callback(report)
    gc.freeze()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(output) if output.is_dir() else None)
    trainer.save_model()


if __name__ == "__main__":
    STOP.listen()
    run(lambda: run_job(Path(sys.argv[1])))
