"""The wheels that the tests read real text from: what `download` brought."""

from pathlib import Path

import pytest

from zagreus.data.packages import read_lock

PACKAGES = Path("resources/packages")


def wheel(name: str) -> Path:
    """Return the path of a package's wheel.

    The test is skipped where it has not been downloaded.
    """
    path = PACKAGES / read_lock("config/packages.lock.csv")[name].file
    if not path.exists():
        pytest.skip(f"{path} has not been downloaded")
    return path
