"""The law of held-out loss: L(N, D) = E + A / N^alpha + B / D^beta, fitted to trainings.

Source: Hoffmann et al. 2022 (arXiv 2203.15556), approach 3. Their loss is Huber's, on the
difference of log losses; they minimise from a grid of starts. So does `fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as students_t

from zagreus.errors import InputError

# Of E, A, alpha, B and beta.
PARAMETERS = 5
# Differences of log losses beyond 1 % count linearly. Hoffmann et al. have 0.1 %, for 400 runs:
# with a dozen such a fit goes through five of them, whatever the others say.
HUBER_DELTA = 0.01
# Starts: parts of the smallest loss (E), of the loss's range (the other two terms), exponents.
LIMIT_SHARES = (0.05, 0.3, 0.6, 0.9)
TERM_SHARES = (0.1, 0.5, 1.0, 2.0)
EXPONENTS = (0.1, 0.3, 0.6, 1.0)
BEST_STARTS = 3
LARGEST_EXPONENT = 3.0
# Of each term at the runs' mean, as a part of the smallest loss. A term that vanished would have no
# slope, and the interval would know nothing of it.
SMALLEST_TERM = 0.05


@dataclass(frozen=True)
class Runs:
    """Finished trainings, float64 [runs] each."""

    parameters: np.ndarray
    """N: parameters, the embedding counted once and included."""
    tokens: np.ndarray
    """D: tokens trained on."""
    loss: np.ndarray
    """Held-out loss in nats a token."""

    def __len__(self) -> int:
        return len(self.loss)

    def without(self, index: int) -> Runs:
        """Return the other runs."""
        rest = np.arange(len(self)) != index
        return Runs(self.parameters[rest], self.tokens[rest], self.loss[rest])


@dataclass(frozen=True)
class Interval:
    """A predicted loss with its interval, in nats a token."""

    loss: float
    """The prediction."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    def holds(self, loss: float) -> bool:
        """Return whether a loss lies inside."""
        return self.low <= loss <= self.high


@dataclass(frozen=True)
class Law:
    """A fitted law.

    N and D are measured from the runs' geometric means, so that the terms are of the losses' size.
    """

    solution: np.ndarray
    """ln E, ln of the term of N at the mean, alpha, ln of the term of D at the mean, beta."""
    means: tuple[float, float]
    """Geometric means of N and D."""
    covariance: np.ndarray
    """Of the solution, by linearization, for residuals of variance 1; [5, 5]."""
    deviation: float
    """Standard deviation of the differences of log losses, over the degrees of freedom."""
    freedom: int
    """Runs less parameters."""

    def constants(self) -> dict[str, float]:
        """Return E (nats a token), A, alpha, B and beta, for N and D as they are."""
        limit, size, alpha, data, beta = map(float, self.solution)
        return {
            "E": float(np.exp(limit)),
            "A": float(np.exp(size) * self.means[0] ** alpha),
            "alpha": alpha,
            "B": float(np.exp(data) * self.means[1] ** beta),
            "beta": beta,
        }

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss of the law in nats a token."""
        log_loss, _ = _log_loss(self.solution, *self._distance(parameters, tokens))
        return float(np.exp(log_loss[0]))

    def predict(self, parameters: float, tokens: float, level: float) -> Interval:
        """Return the loss of a run that was not fitted, with its interval.

        The prediction interval of non-linear regression (Bates and Watts 1988, chapter 2), on the
        log of the loss: Student's t of the degrees of freedom, and the variance of a run beside
        that of the law.

        Args:
            parameters: N.
            tokens: D.
            level: how often the interval should hold, 0.9 for 90 %.
        """
        log_loss, gradient = _log_loss(self.solution, *self._distance(parameters, tokens))
        spread = float(np.sqrt(1 + gradient[0] @ self.covariance @ gradient[0]))
        width = float(students_t.ppf((1 + level) / 2, self.freedom)) * self.deviation * spread
        middle = float(log_loss[0])
        low, high = np.exp([middle - width, middle + width])
        return Interval(float(np.exp(middle)), float(low), float(high))

    def _distance(self, parameters: float, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.log(np.array([parameters]) / self.means[0]),
            np.log(np.array([tokens]) / self.means[1]),
        )


def fit(runs: Runs) -> Law:
    """Return the law that fits the runs best.

    Raises:
        InputError: too few runs for the five parameters, or a loss that is no positive number.
    """
    freedom = len(runs) - PARAMETERS
    if freedom < 1:
        raise InputError(
            f"found {len(runs)} runs, expected {PARAMETERS + 1} or more: "
            f"the law has {PARAMETERS} parameters"
        )
    if not (np.isfinite(runs.loss).all() and (runs.loss > 0).all()):
        raise InputError("found a loss that is not a positive number, expected nats a token")
    means = tuple(float(np.exp(np.log(x).mean())) for x in (runs.parameters, runs.tokens))
    size, data = np.log(runs.parameters / means[0]), np.log(runs.tokens / means[1])
    target = np.log(runs.loss)
    bounds = _bounds(runs.loss)

    def residuals(solution: np.ndarray) -> np.ndarray:
        return _log_loss(solution, size, data)[0] - target

    def jacobian(solution: np.ndarray) -> np.ndarray:
        return _log_loss(solution, size, data)[1]

    fits = [
        least_squares(
            residuals,
            np.clip(start, bounds[0] + 1e-6, bounds[1] - 1e-6),
            jacobian,
            bounds,
            loss="huber",
            f_scale=HUBER_DELTA,
            x_scale="jac",
            method="dogbox",
            xtol=1e-10,
            ftol=1e-10,
            gtol=1e-10,
        )
        for start in _starts(runs.loss, residuals)
    ]
    best = min(fits, key=lambda solution: float(solution.cost))
    slopes = jacobian(best.x)
    return Law(
        solution=best.x,
        means=(means[0], means[1]),
        covariance=np.linalg.pinv(slopes.T @ slopes),
        deviation=float(np.sqrt((residuals(best.x) ** 2).sum() / freedom)),
        freedom=freedom,
    )


def leave_one_out(runs: Runs, level: float) -> list[Interval]:
    """Return each run's loss as the others predict it.

    Raises:
        InputError: too few runs.
    """
    return [
        fit(runs.without(index)).predict(
            float(runs.parameters[index]), float(runs.tokens[index]), level
        )
        for index in range(len(runs))
    ]


def _log_loss(
    solution: np.ndarray, size: np.ndarray, data: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log of the law's loss [runs], and its gradient by the solution [runs, 5].

    Args:
        solution: as in `Law`.
        size: ln N from its mean, [runs].
        data: ln D from its mean, [runs].
    """
    limit, size_term, alpha, data_term, beta = solution
    terms = np.stack([np.full_like(size, limit), size_term - alpha * size, data_term - beta * data])
    log_loss = np.logaddexp.reduce(terms)
    shares = np.exp(terms - log_loss)
    gradient = [shares[0], shares[1], -size * shares[1], shares[2], -data * shares[2]]
    return log_loss, np.stack(gradient, axis=1)


def _bounds(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest solution: no term above the losses, none that vanishes."""
    least, most = np.log(loss.min()), np.log(loss.max())
    smallest = least + np.log(SMALLEST_TERM)
    low = [smallest, smallest, 0, smallest, 0]
    high = [least, most + 1, LARGEST_EXPONENT, most + 1, LARGEST_EXPONENT]
    return np.array(low), np.array(high)


def _starts(loss: np.ndarray, residuals) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    """Return the starts of a grid that are nearest to the runs already."""
    least, span = loss.min(), max(float(np.ptp(loss)), 1e-3 * float(loss.min()))
    limits = [np.log(share * least) for share in LIMIT_SHARES]
    terms = [np.log(share * span) for share in TERM_SHARES]
    grid = [np.array(x) for x in product(limits, terms, EXPONENTS, terms, EXPONENTS)]
    return sorted(grid, key=lambda start: float(np.abs(residuals(start)).sum()))[:BEST_STARTS]
