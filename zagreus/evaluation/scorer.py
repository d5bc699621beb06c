"""Log-likelihoods by lm-eval's transformers backend, the fast way.

Every shared beginning computed once, the head only where it is asked.

What is asked (prompts, metrics, hashes) stays lm-eval's, and its own backend is the reference: same
tokens, same truncation, the same log-likelihoods but for float32's rounding. It computes logits for
every token of every choice, each choice from the first token of the examples on; here the requests
of a task make a tree (zagreus/evaluation/tree.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
import transformers.utils

# transformers imports scikit-learn (1.6 s in each job) for assisted generation, which nothing here
# does.
setattr(transformers.utils, "is_sklearn_available", lambda: False)  # noqa: B010 (a type checker refuses the assignment)

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix
from tqdm import tqdm
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from zagreus.errors import InputError
from zagreus.evaluation.decoder import Decoder, product
from zagreus.evaluation.engine import choose_engine
from zagreus.evaluation.positions import FIRST, range_requests
from zagreus.evaluation.tree import Piece, pieces

LOGGER = logging.getLogger(__name__)

# Decoders whose only state between tokens is their keys and values. Others (LFM2's convolutions)
# take lm-eval's own way.
SERVED = ("llama", "mistral", "qwen2", "qwen3")
# Frequencies of these rotary embeddings depend on how long the sequence is.
UNSERVED_ROPE = ("dynamic", "longrope")
# Tokens of a forward pass. On a CPU the multiplications are as fast as they get from some 200 on,
# and attention among unrelated tokens of a pass is lost; on a GPU launching the kernels must pay.
BUDGET = {"cpu": 256, "cuda": 4096}
# Texts that are encoded together: what the tokenizer keeps beside the ids is many times their size.
TEXTS = 64
# Logits held at a time.
LOGITS = {"cpu": 2**23, "cuda": 2**28}

Pair = tuple[list[int], list[int]]  # tokens of a context and of its continuation
Request = tuple[
    tuple[str, str] | None, list[int], list[int]
]  # lm-eval's: the texts, and their tokens


def unserved(model: Any) -> str | None:
    """Return why the shared-prefix scorer cannot serve a transformers model; None where it can."""
    config = model.config
    if config.model_type not in SERVED:
        return f"model type '{config.model_type}'"
    if config._attn_implementation != "sdpa":
        return f"attention '{config._attn_implementation}'"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in UNSERVED_ROPE:
        return f"rotary embedding '{rope}'"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return "a sliding window"
    return None


class TreeModel(HFLM):
    """lm-eval's transformers backend with shared beginnings.

    Where a model cannot be served so, that backend as it is.
    """

    by_position = False  # whether whole documents are scored by position
    _max_length: int | None  # lm-eval's: a context in place of the model's own

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tokens = 0  # that went through the model, those of padding too
        self.reason = unserved(self.model)
        if self.reason:
            LOGGER.warning("scored with lm-eval's own backend: %s", self.reason)

    @property
    def scorer(self) -> str:
        """How log-likelihoods are computed: `shared prefix` or `harness`."""
        return "harness" if self.reason else "shared prefix"

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nats, whether it is what the model would write) of each
        request's continuation.
        """
        if self.reason:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        texts = [request.args for request in requests]
        encoded = self.encode_pairs(texts)
        return self._loglikelihood_tokens(
            [(text, *pair) for text, pair in zip(texts, encoded, strict=True)],
            disable_tqdm=disable_tqdm,
        )

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[Any]:
        """Return the log-likelihood in nats of each document, or of its ranges of positions.

        By position each document is one window, whatever the model's context.
        """
        if not self.by_position:
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        begin = self.prefix_token_id
        encoded = [
            self.tok_encode(request.args[0], add_special_tokens=False) for request in requests
        ]
        documents = [ids[1:] if ids[:1] == [begin] else ids for ids in encoded]
        parts = range_requests(begin, documents)
        if not parts:
            raise InputError(
                f"a document of {min(map(len, documents))} tokens, expected at least "
                f"{FIRST} in each ('min_bytes' of the evaluation data)"
            )
        context, self._max_length = self._max_length, max(map(len, documents))
        try:
            values = [value for value, _ in self._loglikelihood_tokens(parts, disable_tqdm)]
        finally:
            self._max_length = context
        ranges = len(parts) // len(documents)
        return [values[start : start + ranges] for start in range(0, len(values), ranges)]

    def encode_pairs(self, texts: Sequence[tuple[str, str]]) -> list[Pair]:
        """Return the tokens of each context and continuation, split where lm-eval splits them.

        A context is encoded once
        for all its continuations.

        lm-eval's rule (`TemplateLM._encode_pair`): spaces at the end of a context go to the
        continuation; both are encoded together, and the continuation's tokens are those after as
        many as the context alone has. An empty context is the begin token.
        """
        contexts = list(dict.fromkeys(context.rstrip() for context, _ in texts if context))
        before = dict(zip(contexts, self._encode(contexts), strict=True))
        wholes = self._encode(
            [context + continuation for context, continuation in texts if context]
        )
        pairs = []
        for context, continuation in texts:
            if context:
                first = before[context.rstrip()]
                pair = first, next(wholes)[len(first) :]
            else:
                ids = self.tok_encode(continuation, add_special_tokens=False)
                begin = self.prefix_token_id
                pair = ([begin], ids) if ids[:1] != [begin] else (ids[:1], ids[1:])
            if not pair[0] or not 0 < len(pair[1]) <= self.max_length:
                raise InputError(
                    f"a choice of {len(pair[1])} tokens after {len(pair[0])}, expected 1 to "
                    f"{self.max_length} after one or more:"
                    f" {continuation[:60]!r}"
                )
            pairs.append(pair)
        return pairs

    def _encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the tokens of each text as `tok_encode` gives them."""
        begin, special = (
            self.tokenizer.decode(self.prefix_token_id),
            self.add_bos_token is not False,
        )
        encode = choose_engine(self.tokenizer, texts, special)
        for start in range(0, len(texts), TEXTS):
            group = texts[start : start + TEXTS]
            plain = [text for text in group if not has_bos_prefix(text, begin)]
            begun = [text for text in group if has_bos_prefix(text, begin)]
            ids: dict[str, list[int]] = {}
            for part, around in ((plain, special), (begun, False)):
                if part:
                    ids.update(zip(part, encode(part, around), strict=True))
            yield from (ids[text] for text in group)

    def _model_call(self, inps: torch.Tensor, *positional: Any, **arguments: Any) -> torch.Tensor:
        self.tokens += inps.numel()
        return super()._model_call(inps, *positional, **arguments)

    def _model_generate(
        self, context: torch.Tensor, *positional: Any, **arguments: Any
    ) -> torch.Tensor:
        written = super()._model_generate(context, *positional, **arguments)
        self.tokens += written.numel()
        return written

    def _loglikelihood_tokens(
        self,
        requests: Sequence[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        if self.reason:
            return super()._loglikelihood_tokens(
                requests, disable_tqdm=disable_tqdm, override_bs=override_bs
            )
        batch = RequestBatch(
            [(context, continuation) for _, context, continuation in requests], self.max_length
        )
        budget = BUDGET[self.device.type]
        with (
            torch.inference_mode(),
            tqdm(total=len(requests), desc="requests", disable=disable_tqdm) as bar,
        ):
            # A piece has at most the budget's tokens, or is one sequence.
            decoder = Decoder(self.model, max(map(len, batch.sequences)) + budget)
            for piece in pieces(batch.sequences, budget):
                self.tokens += len(piece.tokens)
                rows, targets, owners = batch.targets(piece)
                distinct, positions = numpy.unique(rows, return_inverse=True)
                hidden = decoder.forward(piece, distinct)
                if len(rows):
                    batch.add(owners, *self._predict(hidden, positions, targets))
                bar.update(batch.ended(piece))
        return batch.totals()

    def _predict(
        self, hidden: torch.Tensor, positions: numpy.ndarray, targets: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return the log-probability of each target after the token whose hidden state is at its
        position, and whether it is the likeliest one.
        """
        head = self.model.get_output_embeddings()
        logarithms, likeliest = numpy.empty(len(positions)), numpy.empty(len(positions), dtype=bool)
        step = max(1, LOGITS[self.device.type] // head.weight.shape[0])
        for start in range(0, len(hidden), step):
            chosen = numpy.flatnonzero((positions >= start) & (positions < start + step))
            # log_softmax as lm-eval takes it: logsumexp is ten times nearer to float64's result,
            # and so 5e-4 off lm-eval's for 40 tokens.
            logits = product(hidden[start : start + step], head).float().log_softmax(dim=-1)
            row = torch.from_numpy(positions[chosen] - start).to(self.device)
            target = torch.from_numpy(targets[chosen]).to(self.device)
            logarithms[chosen] = logits[row, target].double().cpu().numpy()
            likeliest[chosen] = (logits.argmax(dim=-1)[row] == target).cpu().numpy()
        return logarithms, likeliest


class RequestBatch:
    """Requests by sequence and token, and the sums of their log-probabilities.

    As in lm-eval, what is longer than the model takes loses its beginning, and the last token of a
    request is predicted, not read.
    """

    def __init__(self, pairs: Sequence[Pair], longest: int) -> None:
        inputs = [
            tuple((context + continuation)[-(longest + 1) : -1]) for context, continuation in pairs
        ]
        self.sequences = sorted(set(inputs))
        index_of = {sequence: number for number, sequence in enumerate(self.sequences)}
        self.continuations = [continuation for _, continuation in pairs]
        # Requests of each sequence.
        self.request_numbers: list[list[int]] = [[] for _ in self.sequences]
        for number, sequence in enumerate(inputs):
            self.request_numbers[index_of[sequence]].append(number)
        self.sums = numpy.zeros(len(inputs))
        self.greedy = numpy.ones(len(inputs), dtype=bool)

    def targets(self, piece: Piece) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """Return rows of the piece, the target token after each row, and the request of each
        target.
        """
        rows, targets, owners = [], [], []
        for index, path in zip(range(piece.first, piece.last + 1), piece.rows, strict=True):
            length = len(self.sequences[index])
            for request in self.request_numbers[index]:
                continuation = self.continuations[request]
                begin = max(length - len(continuation), piece.start)
                end = length if piece.stop is None else min(length, piece.stop)
                if begin < end:
                    offset = begin - (length - len(continuation))
                    rows.append(path[begin - piece.start : end - piece.start])
                    targets.append(
                        numpy.array(continuation[offset : offset + end - begin], dtype=numpy.int64)
                    )
                    owners.append(numpy.full(end - begin, request))
        if not rows:
            nothing = numpy.zeros(0, dtype=numpy.int64)
            return nothing, nothing, nothing
        return numpy.concatenate(rows), numpy.concatenate(targets), numpy.concatenate(owners)

    def add(
        self, owners: numpy.ndarray, logarithms: numpy.ndarray, likeliest: numpy.ndarray
    ) -> None:
        """Add a piece's findings to their requests."""
        numpy.add.at(self.sums, owners, logarithms)
        numpy.logical_and.at(self.greedy, owners, likeliest)

    def ended(self, piece: Piece) -> int:
        """Return how many requests end in a piece."""
        return (
            0
            if piece.kept
            else sum(
                len(self.request_numbers[index]) for index in range(piece.first, piece.last + 1)
            )
        )

    def totals(self) -> list[tuple[float, bool]]:
        return list(zip(self.sums.tolist(), self.greedy.tolist(), strict=True))
