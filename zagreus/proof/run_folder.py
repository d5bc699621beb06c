"""A run's folder as its manifests describe it, wherever the folder lies now."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from zagreus.errors import InputError

# Folders of copies and of circumstances, and the run's events: these files are no artifacts.
NOT_ARTIFACTS = (
    *("logs", "benchmarks", "ro-crate", "slurm", "published", "tracking"),
    "events.jsonl",
)
KEYS = ("kind", "name", "inputs", "outputs")


@dataclass(frozen=True)
class Artifact:
    """An artifact of a run.

    Attributes:
        path: path of the manifest below the run's folder, with `/`.
        manifest: the manifest.
        run_metadata: what `.run.json` beside the manifest says; empty without such a file.
    """

    path: str
    manifest: dict[str, Any]
    run_metadata: dict[str, Any]

    @property
    def title(self) -> str:
        """The artifact's kind and name."""
        return f"{self.manifest['kind']} {self.manifest['name']}"


class RunFolder:
    """The manifests below a folder, and the files that they name.

    Manifests name files as they lay when the run was made (`results/demo/tokens/...`). `recorded`
    is that folder; `locate` finds the file where the run's folder lies now.
    """

    def __init__(self, root: Path):
        """Read every manifest.

        Args:
            root: the run's folder.

        Raises:
            InputError: no such folder, no manifest in the folder, a manifest that cannot be read,
                or a manifest of another form.
        """
        if not root.is_dir():
            raise InputError(f"{root}: no such folder, expected the results folder of a run")
        self.root = root
        self.artifacts = {item.path: item for item in self._read()}
        if not self.artifacts:
            raise InputError(f"{root}: no manifest in this folder, expected the results of a run")
        self.recorded = self._recorded_folder()

    def locate(self, recorded: str) -> Path:
        """Return where a file that a manifest names lies now.

        A path outside the run (a download, a recipe) is taken as it is recorded: from the
        repository's root, which is the working folder.
        """
        inside = self.inside(recorded)
        return Path(recorded) if inside is None else self.root / inside

    def inside(self, recorded: str) -> str | None:
        """Return a recorded path relative to the run's folder; None for a path outside."""
        path = PurePosixPath(recorded)
        return str(path.relative_to(self.recorded)) if path.is_relative_to(self.recorded) else None

    @cached_property
    def files(self) -> list[str]:
        """All files below the run's folder, relative to the folder, links not followed."""
        paths = []
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            # A link to a folder is one entry: what lies behind the link is not of this run.
            linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            here = os.path.relpath(folder, self.root)
            paths += [os.path.normpath(os.path.join(here, name)) for name in [*names, *linked]]
        return sorted(paths)

    def _read(self) -> Iterator[Artifact]:
        for path in self.files:
            if not path.endswith(".json") or path.endswith(".run.json"):
                continue
            if path.split("/")[0] in NOT_ARTIFACTS or not (self.root / path).is_file():
                continue
            content = _json(self.root / path)
            # Other JSON files (a model's config.json, a tokenizer) are contents of artifacts.
            if not isinstance(content, dict) or not {"kind", "outputs"} <= content.keys():
                continue
            for key in KEYS:
                if key not in content:
                    raise InputError(f"{self.root / path}: a manifest without '{key}'")
            for side in ("inputs", "outputs"):
                for item in content[side]:
                    if not isinstance(item, dict) or not {"path", "bytes", "sha256"} <= item.keys():
                        raise InputError(
                            f"{self.root / path}: {side} hold {str(item)[:60]}, expected path, "
                            "bytes and sha256 (a run of an older version?)"
                        )
            beside = (self.root / path).with_suffix(".run.json")
            metadata = _json(beside) if beside.is_file() else {}
            yield Artifact(path, content, metadata if isinstance(metadata, dict) else {})

    def _recorded_folder(self) -> PurePosixPath:
        """Return the run's folder as the manifests name it: they lie beside their outputs."""
        seen: Counter[str] = Counter()
        for item in self.artifacts.values():
            near = item.path.rpartition("/")[0]
            for output in item.manifest["outputs"]:
                folder = str(PurePosixPath(output["path"]).parent)
                if near and folder.endswith(f"/{near}"):
                    seen[folder.removesuffix(f"/{near}")] += 1
        if not seen:
            raise InputError(f"{self.root}: no manifest says where this run was made")
        return PurePosixPath(seen.most_common(1)[0][0])


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: invalid JSON ({str(error).splitlines()[0]})") from None
