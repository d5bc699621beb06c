"""Two ranks that train together: what each says."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
from small import Training

from zagreus.recipe.read import read_recipe
from zagreus.training.batches import Batches
from zagreus.training.nanoset import TokenFolder


def test_every_rank_says_what_ended_it(tmp_path: Path) -> None:
    """A token beyond the vocabulary that rank 1 alone reads.

    Its line has its number and its host.
    """
    training = Training(tmp_path)
    recipe = read_recipe(training.recipe)
    batches = Batches(recipe, rank=1, ranks=2)
    for _ in range(8):
        batches.next()
    folder, window = batches.order[recipe.tokens.micro_batch_size]
    file, window_index = TokenFolder(
        str(tmp_path / "tokens" / "ab"[folder]), recipe.tokens.sequence_length
    ).locate(window)
    tokens = np.fromfile(file, dtype="<u4")
    tokens[window_index * 17 + 3] = 4000
    tokens.tofile(file)
    done = training.train(20, ranks=2)
    assert done.returncode != 0
    said = [
        line
        for line in done.stderr.splitlines()
        if "expected ids below the vocabulary's size" in line
    ]
    assert [line.split(": ")[:2] for line in said] == [
        [f"rank 1 on {socket.gethostname()}", "error"]
    ], done.stderr[-2000:]
