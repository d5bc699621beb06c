"""Reference values made by nanotron itself; they lie beside the repository, where they exist."""

from pathlib import Path

import pytest

VECTORS = Path("../shared/vectors/nanotron").resolve()

needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason=f"no reference values of nanotron in {VECTORS}"
)
