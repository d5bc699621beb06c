"""Rows that are left out: counted by reason, shown, and an error where they are too many."""

from __future__ import annotations

from collections import Counter

from zagreus.errors import InputError
from zagreus.records import RowError

MAX_LOST_ROWS = 0.01  # share of the rows; the configuration's `max_lost_rows` where nothing is set


class Losses:
    """The rows of one data set that are left out.

    Attributes:
        counts: rows by reason.
        first: the error of the first row.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: RowError | None = None

    def lose(self, error: RowError) -> None:
        """Count a row."""
        self.counts[error.reason] += 1
        self.first = self.first or error

    @property
    def total(self) -> int:
        """How many rows are left out."""
        return self.counts.total()

    def by_reason(self) -> dict[str, int]:
        """Return the rows by reason, in the order of the reasons' names, for a manifest."""
        return dict(sorted(self.counts.items()))

    def __str__(self) -> str:
        return ", ".join(f"{count:,} x {reason}" for reason, count in self.counts.most_common())

    def check(self, name: str, rows: int, limit: float, remedy: str) -> None:
        """Raise `InputError` where too many rows are left out.

        Args:
            name: the data set, for the message.
            rows: all its rows, those that are left out included.
            limit: share of the rows that may be left out.
            remedy: what allows more, for the message.
        """
        if self.total <= limit * rows:
            return
        share = f"{self.total:,} of {rows:,} rows cannot be used, expected {limit:.2%} at most"
        raise InputError(f"{name}: {share}: {self}; {remedy}; the first: {self.first}")
