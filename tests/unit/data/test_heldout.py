"""The held-out rule."""

import hashlib
import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from zagreus.data.heldout import held_apart

SHARES = st.floats(0, 1)


@given(st.text(), SHARES)
def test_equals_the_rule_as_it_is_written(key: str, share: float) -> None:
    fraction = Fraction(int(hashlib.sha256(key.encode()).hexdigest()[:16], 16), 2**64)
    assert held_apart(key, share) == (fraction < Fraction(share))


@given(st.text(), SHARES, SHARES)
def test_a_greater_share_keeps_what_was_apart(key: str, share: float, other: float) -> None:
    if held_apart(key, min(share, other)):
        assert held_apart(key, max(share, other))


def test_share_of_many() -> None:
    apart = sum(held_apart(str(number), 0.03) for number in range(20_000))
    assert abs(apart - 600) < 5 * math.sqrt(20_000 * 0.03 * 0.97)
    assert not any(held_apart(str(number), 0) for number in range(1000))
