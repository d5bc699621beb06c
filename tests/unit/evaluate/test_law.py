"""The law of held-out loss on losses that a known law made."""

from __future__ import annotations

import numpy as np
import pytest

from zagreus.errors import InputError
from zagreus.scaling import law
from zagreus.scaling.law import Runs, fit, leave_one_out
from zagreus.scaling.verdict import LEVEL, verdict

# Hoffmann et al. 2022, approach 3.
TRUE = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
SIZES = np.array([5e7, 1e8, 2e8, 4e8])
BUDGETS = np.array([1e9, 2e9, 4e9])
# What the ladder predicts: twice the largest size, four times the largest budget.
LARGER = (8e8, 1.6e10)


def true_loss(parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The loss of the known law."""
    by_size, by_tokens = TRUE["A"] / parameters ** TRUE["alpha"], TRUE["B"] / tokens ** TRUE["beta"]
    return TRUE["E"] + by_size + by_tokens


def drawn(noise: float, seed: int, sizes: np.ndarray = SIZES) -> Runs:
    """Runs of every size on every budget, the log of the loss with Gaussian noise."""
    parameters, tokens = (grid.ravel() for grid in np.meshgrid(sizes, BUDGETS))
    factor = np.exp(np.random.default_rng(seed).normal(0, noise, len(parameters)))
    return Runs(parameters, tokens, true_loss(parameters, tokens) * factor)


def test_the_constants_come_back() -> None:
    fitted = fit(drawn(0.0, 0))
    assert fitted.constants() == pytest.approx(TRUE, rel=1e-3)
    assert fitted.deviation < 1e-6
    assert fitted.loss(*LARGER) == pytest.approx(true_loss(*map(np.array, LARGER)), rel=1e-5)


def test_a_failed_run_pulls_the_law_less_than_least_squares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Huber's loss: the largest run is 20 % too high, and the prediction follows by 4 %, not 20."""
    runs = drawn(0.0, 0)
    loss = runs.loss.copy()
    loss[-1] *= 1.2
    failed = Runs(runs.parameters, runs.tokens, loss)
    truth = float(true_loss(*map(np.array, LARGER)))
    moved = fit(failed).loss(*LARGER) / truth - 1
    monkeypatch.setattr(law, "HUBER_DELTA", 10.0)  # every difference counts squared
    least_squares = fit(failed).loss(*LARGER) / truth - 1
    assert 0 < moved < 0.05 < 3 * moved < least_squares


def test_intervals_hold_as_often_as_they_say() -> None:
    """Over repeated draws, for the larger model and for the rungs from one another.

    Of 40 draws 36 are expected, with a standard deviation of 1.9.
    """
    noise, rng = 0.005, np.random.default_rng(1)
    truth = float(true_loss(*map(np.array, LARGER)))
    held = 0
    for draw in range(40):
        interval = fit(drawn(noise, draw)).predict(*LARGER, LEVEL)
        held += interval.holds(truth * float(np.exp(rng.normal(0, noise))))
    assert 32 <= held <= 39
    shares = []
    for draw in range(2):
        runs = drawn(noise, draw)
        intervals = leave_one_out(runs, LEVEL)
        shares += [i.holds(loss) for i, loss in zip(intervals, runs.loss, strict=True)]
    assert 0.78 <= np.mean(shares) <= 1


def test_a_law_of_another_form_is_noticed() -> None:
    """A size that was trained badly (5 % above the law) leaves the interval of the others."""
    runs = drawn(0.001, 3)
    loss = np.where(runs.parameters == SIZES[-1], runs.loss * 1.05, runs.loss)
    worse = Runs(runs.parameters, runs.tokens, loss)
    assert fit(worse).deviation > 3 * fit(runs).deviation


def test_too_few_runs() -> None:
    runs = drawn(0.0, 0, SIZES[:2])
    few = Runs(runs.parameters[:5], runs.tokens[:5], runs.loss[:5])
    with pytest.raises(InputError, match="found 5 runs, expected 6 or more: the law has 5"):
        fit(few)
    bad = Runs(runs.parameters, runs.tokens, np.where(runs.loss > 0, np.nan, 0))
    with pytest.raises(InputError, match="a loss that is not a positive number"):
        fit(bad)


def rows(outside: set[int]) -> list[dict[str, object]]:
    """Twelve rungs, the last one the largest."""
    return [
        {"rung": f"r{i}", "parameters": i, "tokens": 1, "inside": i not in outside}
        for i in range(12)
    ]


def test_the_verdict() -> None:
    """At 90 % nine of twelve rungs or more are inside in all but 2.6 % of the ladders."""
    assert verdict(rows({0, 1, 2}))["holds"] and verdict(rows(set()))["holds"]
    few = verdict(rows({0, 1, 2, 3}))
    assert not few["holds"] and few["least"] == 9 and "outside: r0, r1, r2, r3" in few["summary"]
    assert not verdict(rows({11}))["holds"], "the largest rung"
