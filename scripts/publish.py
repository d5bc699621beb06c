"""Push a model folder to a model hub, with its card completed by the run's scores.

Without a token it says what it would push.

    bin/publish results/demo/models/ita/160 owner/name
    HF_TOKEN=... bin/publish results/demo/models/ita/160 owner/name

Only what the folder's manifest vouches for is pushed, and only where its bytes are still those of
the manifest. HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

# The images keep everything off the network; this program is for the network.
os.environ |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}

from huggingface_hub import CommitOperationAdd, HfApi, constants

from zagreus.credentials import mask, read_token
from zagreus.data.hub import check_repository, one_line
from zagreus.errors import InputError, run
from zagreus.manifest import read_manifest, sha256_file
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.model_card import complete_card
from zagreus.reporting.tables import read_tables


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, help="a model folder of a run: RESULTS/models/MODEL/CHECKPOINT"
    )
    parser.add_argument("repository", help="owner/name on the hub; it is made where there is none")
    parser.add_argument(
        "--public",
        action="store_true",
        help="make a new repository public; it is private otherwise",
    )
    given = parser.parse_args()

    check_repository(given.repository, owner=True)
    token = read_token()
    files = checked_files(given.model)
    card = finished_card(given.model)
    print(
        mask(
            f"{'push' if token else 'would push'} {given.model} to "
            f"{constants.ENDPOINT}/{given.repository}:"
        )
    )
    named = {path.name: path for path in files} | exported_files(given.model)
    for name, path in named.items():
        print(f"  {name:32} {path.stat().st_size:>15,} bytes")
    print(f"  {'README.md':32} {len(card.encode()):>15,} bytes, with the run's scores")
    if not token:
        print("nothing was pushed: no HF_TOKEN in the environment")
        return
    operations: list[Any] = [CommitOperationAdd(name, path) for name, path in named.items()]
    operations.append(CommitOperationAdd("README.md", card.encode()))
    # One try: a push that broke off may have been taken.
    with one_line(given.repository, ""):
        hub = HfApi()
        hub.create_repo(given.repository, private=not given.public, exist_ok=True)
        done = hub.create_commit(
            given.repository,
            operations,
            commit_message=f"{given.model.parent.name} {given.model.name}",
        )
    print(mask(f"pushed: {done.commit_url}"))


def exported_files(folder: Path) -> dict[str, Path]:
    """Return the exports of a model by their names on the hub.

    GGUF files lie in the repository's root and ONNX files in `onnx/`: programs look for them there.

    Raises:
        InputError: a file is missing, has changed since, or was made from another model.
    """
    exports = folder.parents[2] / "exports" / folder.parent.name / folder.name
    found: dict[str, Path] = {}
    for path in sorted(exports.glob("*/manifest.json")):
        manifest = read_manifest(path)
        if manifest["kind"] != "export":
            continue
        made_from = {Path(item["path"]).name: item["sha256"] for item in manifest["inputs"][:1]}
        if made_from != {"manifest.json": sha256_file(folder / "manifest.json")}:
            raise InputError(
                f"{path}: an export of other weights than {folder}'s; export the model again"
            )
        for file in checked_files(path.parent, "export")[:-1]:
            found[f"onnx/{file.name}" if file.suffix == ".onnx" else file.name] = file
    return found


def checked_files(folder: Path, kind: str = "model") -> list[Path]:
    """Return the files of an artifact, but for a model's card, and its manifest.

    Raise `InputError` where one is missing or has changed since.
    """
    manifest = read_manifest(folder / "manifest.json", kind)
    files = []
    for item in manifest["outputs"]:
        path = folder / Path(item["path"]).name
        if Path(item["path"]).parent.parts[-3:] != folder.resolve().parts[-3:]:
            continue  # the log of its training, which lies elsewhere
        if not path.is_file():
            raise InputError(f"{path}: no such file, {folder / 'manifest.json'} names it")
        if sha256_file(path) != item["sha256"]:
            raise InputError(
                f"{path}: not the file that {folder / 'manifest.json'} names, its sha256 is another"
            )
        if path.name != "README.md":
            files.append(path)
    return [*files, folder / "manifest.json"]


def finished_card(folder: Path) -> str:
    """Return the model's card with the scores of the run that it lies in."""
    manifest = folder / "manifest.json"
    tables = folder.parents[2] / "tables"
    card = folder / "README.md"
    if not card.is_file():
        raise InputError(f"{card}: no such file, expected the card that was written with the model")
    lineage = Lineage([manifest])
    return complete_card(
        card.read_text(encoding="utf-8"),
        lineage,
        lineage.nodes[str(manifest)],
        read_tables(tables, ("scores", "contamination", "exports", "export_speeds")),
    )


if __name__ == "__main__":
    run(main)
