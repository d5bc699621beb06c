"""Keys that change no default run: `portable`, `publish` and `track`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, snakemake

from zagreus.config.check import check_config
from zagreus.errors import InputError

MODE = "env ZAGREUS_PORTABLE=1 ATEN_CPU_CAPABILITY=avx2"


def dry_run(checkout: Path, target: str, **keys: Any) -> tuple[str, str]:
    """Dry-run a target of the test configuration with more keys; return what it said."""
    config = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | {"software": "venv"} | keys
    path = checkout / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    done = snakemake("-n", "-p", target, "--configfile", str(path), folder=checkout)
    return done.stdout, done.stderr


def test_the_portable_mode_reaches_what_computes_with_floats(checkout: Path) -> None:
    more = {"publish": {"repo": "o/z-{model}", "every": "checkpoint"}, "track": ["wandb"]}
    commands = dry_run(checkout, "all", portable=True, **more)[0].splitlines()
    for script in ("pretrain", "convert", "posttrain", "evaluate", "sample", "fetch_model"):
        lines = [line for line in commands if f"scripts/{script}.py " in line]
        assert lines and all(MODE in line for line in lines), script
    for script in ("fetch", "tokenize", "tabulate"):
        lines = [line for line in commands if f"scripts/{script}.py " in line]
        assert lines and not any("ZAGREUS_PORTABLE" in line for line in lines), script
    # The goldens show that nothing of the mode is in a run without the key.
    assert not any("scripts/publish.py" in line or "scripts/track.py" in line for line in commands)


def test_published_and_tracked_are_targets_of_their_own(checkout: Path) -> None:
    publish = {"repo": "owner/z-{model}", "every": "checkpoint"}
    said = dry_run(checkout, "published", publish=publish)[0]
    pushes = [line for line in said.splitlines() if "scripts/publish.py " in line]
    assert len(pushes) == 8
    assert any("ita/20 owner/z-ita --revision step-20 --receipt" in line for line in pushes)
    last = "dpo owner/z-nesso-instruct --revision dpo --revision main --receipt"
    assert any(last in line for line in pushes)
    said = dry_run(checkout, "tracked", track=["wandb", "mlflow"])[0]
    assert said.count("scripts/track.py ") == 2 * 5
    errors = [line for line in dry_run(checkout, "published")[1].splitlines() if "error: " in line]
    assert len(errors) == 1 and "no section `publish` in the configuration" in errors[0]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"portable": True, "torch": "cuda12"}, "portable: true with torch: cuda12, expected"),
        ({"publish": {"repo": "o/z", "every": "checkpoint"}}, "'o/z' for 5 models, expected"),
        (
            {"publish": {"repo": "o/z", "every": "model", "models": ["itta"]}},
            "publish.models: 'itta' is no model, expected one of ita, fra",
        ),
        ({"publish": {"repo": "o/z", "every": "hour"}}, "publish.every"),
        ({"track": ["comet"]}, "track"),
    ],
)
def test_bad_keys_are_one_line(keys: dict[str, Any], expected: str) -> None:
    config = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | {"software": "venv"} | keys
    with pytest.raises(InputError) as problem:
        check_config(config, "changed.yaml")
    assert expected in str(problem.value) and "\n" not in str(problem.value)
