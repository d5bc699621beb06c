"""The small model and its reference, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_llama import make_reference, write_model

from zagreus.export.reference import Reference


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def reference(model: Path) -> Reference:
    return make_reference(model)
