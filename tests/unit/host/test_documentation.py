"""The documents say what the code does.

`python tests/unit/host/test_documentation.py` writes docs/config.md anew from the schema.
"""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema2md
import pytest
import yaml

ROOT = Path(__file__).parents[3]


REFERENCE = ROOT / "docs" / "config.md"


def _reference() -> str:
    return "".join(
        jsonschema2md.Parser().parse_schema(
            yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
        )
    )


def test_the_reference_of_the_configuration_is_the_schema() -> None:
    assert REFERENCE.read_text() == _reference()


DOCUMENTS = [
    path
    for folder in (".", "docs", "reference", ".github")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
]


def _prose(document: Path) -> str:
    """Return a page without its blocks of code and without `code` in a line."""
    text = re.sub(r"^( *)```.*?^\1```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`+[^`\n]*`+", lambda code: re.sub(r"[\[\]()#]", "", code[0]), text)


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a page: those of `<a id=...>`, and those of headings on GitHub."""
    anchors = re.findall(r'<a id="([^"]+)">', document.read_text())
    for heading in re.findall(r"^#+ +(.+?) *#*$", _prose(document), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        repeated = sum(known == anchor for known in anchors)
        anchors += [anchor, f"{anchor}-{repeated}"] if repeated else [anchor]
    return set(anchors)


# Linked from pages, and not there yet: remove the name once the record is written.
PENDING = {"2026-11-28-proof.md"}


def _broken_links(document: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", _prose(document)):
        if re.match(r"[a-z]+:", target) or Path(target).name in PENDING:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        if not file.exists():
            broken.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in _anchors(file):
            broken.append(f"{target}: {file.name} has no such heading")
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_hold(document: Path) -> None:
    assert not _broken_links(document)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `key:` of 2 words\n[here](#a-key-of-2-words) [file](page.md#nowhere) [gone](gone.md)\n"
        '```\n# no heading\n[code](code.md)\n```\n[code](#no-heading) ![picture](p.png "title")\n'
    )
    names = [line.split(":")[0] for line in _broken_links(page)]
    assert names == ["page.md#nowhere", "gone.md", "#no-heading", "p.png"]


PLACES = "bin|config|containers|docs|envs|profiles|recipes|reference|rules|scripts|tests|zagreus"
PAGES = [
    path for path in DOCUMENTS if path.parent.name != "benchmarks" and path.stem != "CHANGELOG"
]


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_of_the_repository_exist(document: Path) -> None:
    named = re.findall(
        rf"(?<![\w./<>-])((?:{PLACES})/[\w./-]*\w)(?![\w*]|/?[A-Z{{<])", document.read_text()
    )
    assert [
        path for path in named if not (ROOT / path).exists() and not _is_placeholder(path)
    ] == []


# Files that a user makes, or that a page tells how to make.
UNMADE = {"profiles/mine", "config/sources.lock.csv", "envs/constraints.rocm.txt"}


def _is_placeholder(path: str) -> bool:
    """Tell whether a path has a word in capitals that stands for a name, or is not made yet."""
    return bool(re.search(r"(^|[/_.-])[A-Z]{2,}", path)) or path in UNMADE


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_checkpoints_that_are_named_are_those_of_the_configuration(document: Path) -> None:
    for size, model, checkpoint in re.findall(
        r"results/(demo|test)/(?:models|evaluate|pretrain|samples|exports)/([a-z-]+)/(\w+)",
        document.read_text(),
    ):
        entries = yaml.safe_load((ROOT / f"config/{size}.yaml").read_text())["models"]
        entry = entries[model]
        known = [*map(str, entry.get("pretrain", {}).get("checkpoints", [])), "checkpoints"]
        known += [stage["stage"] for stage in entry.get("posttrain", [])]
        assert checkpoint in known, f"results/{size}: {model} has no checkpoint {checkpoint}"


# Generated pages and records may hold more than one sentence a line.
FREE = {"docs/config.md", "CHANGELOG.md", "reference/known_contradictions.md"}
FREE |= {"docs/add_a_language.md"}  # until its next rewriting
SENTENCES = r"[a-z0-9)%*][.!?]\)? +[A-Z]"


def _crowded_lines(document: Path) -> list[str]:
    """Return the lines outside tables, code and headings that hold more than a sentence."""
    return [
        line
        for line in re.sub(r"`[^`\n]*`", "x", _prose(document)).splitlines()
        if not line.startswith(("|", "#"))
        and re.search(SENTENCES, re.sub(r"^ *(- |\d+\. )", "", line))
    ]


@pytest.mark.parametrize(
    "document",
    [
        path
        for path in DOCUMENTS
        if str(path.relative_to(ROOT)) not in FREE and path.parent.name != "benchmarks"
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_line_holds_one_sentence(document: Path) -> None:
    assert not _crowded_lines(document)


def test_a_second_sentence_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A. B heading\nOne sentence, e.g. this, of 1.5 MB (see v2.0 Beta).\nTwo. Sentences.\n"
        "1. A step\n| A cell. Two. |\n```\nCode. More.\n```\n- Ends with `code`. And goes on.\n"
    )
    assert _crowded_lines(page) == ["Two. Sentences.", "- Ends with x. And goes on."]


def test_every_rule_with_a_script_has_the_name_of_the_script() -> None:
    rules = {
        name
        for path in (ROOT / "rules").glob("*.smk")
        for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)
    }
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    called = {
        name
        for path in (ROOT / "rules").glob("*.smk")
        for name in re.findall(r"scripts/(\w+)\.py", path.read_text())
    }
    assert called <= rules and called <= scripts


if __name__ == "__main__":
    REFERENCE.write_text(_reference())
