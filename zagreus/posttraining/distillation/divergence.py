"""How far a student is from its teacher: the reverse KL divergence on the student's own answers.

An implementation of its own, apart from the trainer's loss: the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zagreus.posttraining.distillation.prompts import Prompt
from zagreus.posttraining.distillation.teacher import batches, left_padded

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel


@dataclass(frozen=True)
class Divergence:
    """The divergence on the answers to some prompts."""

    kl: float
    """Mean of KL(student || teacher) over the tokens of the student's answers, in nats."""
    tokens: int
    """Tokens of the answers, the one that ends a turn included."""


def reverse_kl(
    student: torch.Tensor, teacher: torch.Tensor, answered: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of KL(student || teacher) over the answers' tokens, and their number.

    KL(p || q) is the sum of p(v) (log p(v) - log q(v)) over the vocabulary.

    Args:
        student: logits that predict the tokens, (rows, tokens, vocabulary).
        teacher: the same of the teacher.
        answered: True where a token belongs to the answer, (rows, tokens).
    """
    student, teacher = (logits.double() for logits in (student, teacher))
    log_p = student - student.logsumexp(-1, keepdim=True)
    log_q = teacher - teacher.logsumexp(-1, keepdim=True)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    return (kl * answered).sum(), answered.sum()


def answer_mask(answers: torch.Tensor, stop: int) -> torch.Tensor:
    """Return True for the tokens of answers up to the first that ends the turn, (rows, tokens).

    Args:
        answers: ids, filled up with any token after the end.
        stop: id of the token that ends a turn.
    """
    ended = (answers == stop).int()
    return (ended.cumsum(-1) - ended) == 0


def measure(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    prompts: Sequence[Prompt],
    sampling: GenerationConfig,
    batch: int,
    seed: int,
) -> Divergence:
    """Return the divergence on answers that the student samples.

    The same seed draws the same answers; the random state of the process stays as it was.

    Args:
        student: the student, in evaluation mode.
        teacher: the teacher, in evaluation mode.
        prompts: prompts that nobody trained on.
        sampling: how the student answers, with `max_new_tokens` and one `eos_token_id`.
        batch: prompts of a batch.
        seed: of the sampling.
    """
    import torch

    total, tokens = 0.0, 0
    devices = [student.device] if student.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for indices in batches([len(item.prompt) for item in prompts], batch):
            rows = [prompts[index].prompt for index in indices]
            ids, mask = left_padded(rows, sampling.pad_token_id, student.device)
            written = student.generate(
                input_ids=ids, attention_mask=mask, generation_config=sampling
            )
            answers = written[:, ids.shape[1] :]
            answered = answer_mask(answers, sampling.eos_token_id)
            whole = torch.cat([mask, answered.to(mask.dtype)], 1)
            named = {
                "input_ids": written,
                "attention_mask": whole,
                "position_ids": (whole.cumsum(-1) - 1).clamp(min=0),
                "logits_to_keep": answers.shape[1] + 1,
                "use_cache": False,
            }
            own, other = (model(**named).logits[:, :-1] for model in (student, teacher))
            kl, count = reverse_kl(own, other, answered)
            total, tokens = total + float(kl), tokens + int(count)
    return Divergence(total / tokens, tokens)
