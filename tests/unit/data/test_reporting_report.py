"""Figures, report and RO-Crate of a hand-made run: whole, self-contained, the same each time."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import xml.etree.ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from reporting_run import (
    BASES,
    PLAN,
    POSTTRAINED,
    SOURCES,
    TASKS,
    family,
    make_report,
    script,
    write_run,
)
from rocrate.rocrate import ROCrate

from zagreus.manifest import sha256_file
from zagreus.reporting.cells import count, duration, memory, number, scientific, short
from zagreus.reporting.checks import ends_turns
from zagreus.reporting.exports import card_lines, export_table, speed_table
from zagreus.reporting.inline import inline_svg
from zagreus.reporting.lineage import Lineage
from zagreus.reporting.stages import stage_diagram

VOID = {"meta", "link", "br", "img", "wbr", "hr", "input"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("run")
    return root, make_report(root)


class Page(HTMLParser):
    """Collects what the tests ask of a page, and checks that its tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._collect(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._collect(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> out of place"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "script"):
            self.text += data

    def _collect(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")


def test_the_page_refers_to_nothing_outside_itself(run: tuple[Path, list[str]]) -> None:
    text = (run[0] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.links and all(link.startswith("#") for link in page.links)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 2 and not re.search(
        r"fetch\(|XMLHttpRequest|import\(|WebSocket|\.src\b", text
    )
    assert not re.search(r"https?://|@import|//\w+\.\w", text)
    for reference in re.findall(r"url\(([^)]*)\)", text):
        assert reference.startswith("#")
    assert len(text.encode()) < 5_000_000


def test_every_link_and_id_of_the_page_holds(run: tuple[Path, list[str]]) -> None:
    page = Page((run[0] / "report.html").read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_the_page_has_every_figure_and_every_model(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    page = Page((root / "report.html").read_text(encoding="utf-8"))
    drawn = json.loads((root / "figures" / "index.json").read_text())
    assert {path.name for path in (root / "figures").glob("*.svg")} == {
        figure["file"] for figure in drawn
    }
    for figure in drawn:
        data = pd.read_csv((root / "figures" / figure["file"]).with_suffix(".csv"))
        assert len(data) and (data.select_dtypes("number").notna().any(axis=None))
    for figure in drawn:
        assert f"figure-{Path(figure['file']).stem}" in page.ids
    files = {figure["file"] for figure in drawn}
    assert files >= {
        "loss.svg",
        "learning_rate.svg",
        "matrix.svg",
        "posttrain_sft.svg",
        "posttrain_dpo.svg",
        "compare_choice_eng.svg",
    }
    assert files >= {
        "posttrained_eng.svg",
        "posttrained_ita.svg",
        "posttrained_mean.svg",
        "score_choice_eng.svg",
    }
    assert files >= {
        f"{kind}_{name}.svg"
        for kind, names in (("bits_heldout", ("eng", "code", *BASES)), ("checkpoints", BASES))
        for name in names
    }
    assert page.tags.count("svg") == len(drawn) + 3
    for name in (*BASES, *POSTTRAINED, "smollm2"):
        assert f"walk-{name}-" in " ".join(page.ids)
    # Text of a model is text, whatever it looks like.
    assert "<b>God</b> made the heaven & the earth." in page.text


def test_the_page_shows_the_numbers_and_says_what_is_missing(run: tuple[Path, list[str]]) -> None:
    text = Page((run[0] / "report.html").read_text(encoding="utf-8")).text
    assert "12 of 12" in text
    assert "every one holds" in text
    assert "± 0.035" in text.replace("\u2009", " ")
    assert "No time is known of 10 of 12 pretrain jobs" in text


def test_the_page_shows_what_the_exports_cost(run: tuple[Path, list[str]]) -> None:
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="exports">') :].partition("</section>")[0]
    assert "2.3120 (+0.0020)" in section and "97.0%" in section and "900, 80" in section
    assert "33.0% (35.0%), 95%" in section and "right calls" in section
    points = pd.read_csv(run[0] / "figures/exports.csv")
    assert points[["format", "bytes", "rise"]].values.tolist() == [
        ["f16", 2000, 0.0001],
        ["q8_0", 1060, 0.002],
    ]


def test_requests_are_a_column_where_there_are_any(run: tuple[Path, list[str]]) -> None:
    lineage = Lineage(run[1])
    table, speeds = export_table(lineage), speed_table(lineage)
    row = table[(table["format"] == "q8_0") & (table["language"] == "ita")].iloc[0]
    assert row[["request_items", "right_call", "right_call_fp32"]].tolist() == pytest.approx(
        [20, 0.33, 0.35]
    )
    assert table[table["language"] == "eng"]["right_call"].isna().all()
    card = card_lines(table, speeds, lineage)
    assert any("right calls (fp32)" in line for line in card)
    assert any("| ita 33.0% (35.0%) |" in line for line in card)
    none = card_lines(table[table["language"] == "eng"], speeds, lineage)
    assert not any("right calls" in line for line in none)
    widths = {line.count("|") for line in none if line.startswith("|")}
    assert widths == {6}


def test_the_graph_of_rules_has_every_rule_once_with_its_artifacts(
    run: tuple[Path, list[str]],
) -> None:
    _, manifests = run
    lineage = Lineage(manifests)
    svg = xml.etree.ElementTree.fromstring(stage_diagram(lineage))
    texts = [element.text for element in svg.iter("text")]
    shown = dict(zip(texts[::2], map(int, texts[1::2])))
    assert shown["pretrain"] == 12 and shown["tokenize"] == 8 and shown["posttrain"] == 3
    assert sum(shown.values()) == len(lineage.nodes)
    edges = {element.text.partition(":")[0] for element in svg.iter("title")}
    assert {
        "fetch to tokenize",
        "tokenize to pretrain",
        "pretrain to convert",
        "convert to posttrain",
        "convert to evaluate",
    } <= edges
    assert "evaluate to convert" not in edges


def test_a_cell_leads_to_the_wheel(run: tuple[Path, list[str]]) -> None:
    """From every score by way of the numbered artifacts to the sha256 of the file at the beginning,
    as the page's script walks.
    """
    root, _ = run
    text = (root / "report.html").read_text(encoding="utf-8")
    evidence = json.loads(text.partition('id="evidence">')[2].partition("</script>")[0])
    wheel = sha256_file(root / "packages" / "texts-1.0-py3-none-any.whl")
    shown = {int(index) for index in re.findall(r'data-score="(\d+)"', text)}
    assert len(shown) > 50 and max(shown) < len(evidence["scores"])
    for index in shown:
        artifact, seen = evidence["artifacts"][evidence["scores"][index]["artifact"]], set()
        kinds, queue = set(), [artifact]
        while queue:
            artifact = queue.pop()
            kinds.add(artifact["kind"])
            for parent in artifact["parents"]:
                if parent not in seen:
                    seen.add(parent)
                    queue.append(evidence["artifacts"][parent])
        assert {"scores", "model", "evaluation_data"} <= kinds
        assert any(
            wheel == sha256
            for artifact_index in seen
            for _, _, sha256 in evidence["artifacts"][artifact_index]["from"]
        )
    beside = evidence["scores"][min(shown)]["beside"]
    everything = {
        "value",
        "stderr",
        "n",
        "num_fewshot",
        "majority_baseline",
        "task_version",
        "task_hash",
        "data_sha256",
        "weights_sha256",
        "dtype",
        "scorer",
    }
    assert everything | {"software", "seconds"} <= beside.keys()
    choice = next(score["beside"] for score in evidence["scores"] if score["task"] == "choice_ita")
    assert choice["set_aside"] == {"a choice is empty": 2, "no gold": 1}
    assert "choice_ita 3 of 503 (2 a choice is empty; 1 no gold)" in (
        root / "report.html"
    ).read_text(encoding="utf-8")
    assert choice["label_shares"] == {"0": 0.75, "1": 0.25} and choice["unparsed"] == 0
    scores = pd.read_csv(root / "tables" / "scores.csv")
    assert (
        scores[["data_sha256", "weights_sha256", "software", "task_hash", "task_version"]]
        .notna()
        .all(axis=None)
    )
    assert (
        scores.loc[scores["task"] == "choice_ita", "label_shares"]
        .eq('{"0": 0.75, "1": 0.25}')
        .all()
        and scores["dtype"].eq("float32").all()
    )


def test_comparisons_sources_and_mixtures_lead_there_too(run: tuple[Path, list[str]]) -> None:
    """Both scores of a comparison, every model's behind a task's signal.

    Of a source and its part in a mixture, its tokens.
    """
    text = (run[0] / "report.html").read_text(encoding="utf-8")
    evidence = json.loads(text.partition('id="evidence">')[2].partition("</script>")[0])
    sections = {
        name: text.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        for name in ("comparisons", "lineage")
    }
    pairs, mixture, signal = (
        pd.read_csv(run[0] / "tables" / f"{name}.csv") for name in ("paired", "mixture", "signal")
    )
    scores = [
        evidence["scores"][int(index)]
        for index in re.findall(r'data-score="(\d+)"', sections["comparisons"])
    ]
    assert len(scores) == 2 * len(pairs) + len(signal) and len(pairs) > 10 and len(signal) > 0
    named = {
        (score["model"], score["checkpoint"], score["task"], score["metric"]) for score in scores
    }
    assert named >= set(
        zip(pairs["other"], pairs["other_checkpoint"].astype(str), pairs["task"], pairs["metric"])
    )
    kinds = [
        evidence["artifacts"][int(index)]["kind"]
        for index in re.findall(r'data-artifact="(\d+)"', sections["lineage"])
    ]
    assert kinds == ["tokens"] * (2 * len(SOURCES) + len(mixture)), (
        "sources, their one shard each, and mixtures"
    )


def test_the_page_counts_the_rows_left_out(run: tuple[Path, list[str]]) -> None:
    text = Page((run[0] / "report.html").read_text(encoding="utf-8")).text
    assert "no user turn" in text and "5.00 %" in text


def test_the_page_says_what_is_contaminated_and_what_differs(run: tuple[Path, list[str]]) -> None:
    text = Page((run[0] / "report.html").read_text(encoding="utf-8")).text
    assert "2 of 8 pairs of a training source and a data set overlap" in text and "3/190" in text
    assert "McNemar" in text and "3 of 6 differ" in text and "4 of 4" in text


def test_the_walk_ends_at_the_wheel(run: tuple[Path, list[str]]) -> None:
    root, _ = run
    text = (root / "report.html").read_text(encoding="utf-8")
    walk = text[text.index('id="walk-ita-240"') : text.index('id="walk-spa-240"')]
    wheel = sha256_file(root / "packages" / "texts-1.0-py3-none-any.whl")
    assert f'title="{wheel}">{wheel[:12]}<' in walk
    assert [walk.count(f"</span> ita/{step}<") for step in (80, 160, 240)] == [1, 1, 2]
    assert "spa_bible" not in walk.replace('class="kind">source</span> spa_bible', "")


def test_a_failed_check_is_shown_open_and_as_failed(tmp_path: Path) -> None:
    manifests = write_run(tmp_path, turns=0.1)
    tables, figures = tmp_path / "tables", tmp_path / "figures"
    made = script(
        "tabulate",
        *manifests,
        "--models",
        json.dumps(family()),
        "--tasks",
        json.dumps(TASKS),
        "--plan",
        json.dumps(PLAN),
        "--reference",
        "reference",
        "--benchmarks",
        tmp_path,
        "--output",
        tables,
    )
    assert made.returncode == 0, made.stderr
    assert script("plot", "--tables", tables, "--output", figures).returncode == 0
    assert (
        script(
            "report",
            *manifests,
            "--name",
            "x",
            "--tables",
            tables,
            "--figures",
            figures,
            "--output",
            tmp_path / "r.html",
        ).returncode
        == 0
    )
    text = (tmp_path / "r.html").read_text()
    assert text.count('<details class="check" open>') == 1
    shown = text[text.index('<details class="check" open>') :]
    assert "chat format" in shown[:600] and "does not hold" in shown[:600]


def test_figures_are_the_same_each_time_and_valid_svg(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, _ = run
    assert (
        script("plot", "--tables", root / "tables", "--output", tmp_path / "figures").returncode
        == 0
    )
    for path in sorted((root / "figures").glob("*.svg")):
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes(), path.name
        xml.etree.ElementTree.parse(path)
        assert "20" + "26-" not in path.read_text()


def test_the_report_is_the_same_from_the_same_files(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, manifests = run
    again = tmp_path / "report.html"
    done = script(
        "report",
        *manifests,
        "--name",
        "small",
        "--tables",
        root / "tables",
        "--figures",
        root / "figures",
        "--output",
        again,
    )
    assert done.returncode == 0
    assert again.read_bytes() == (root / "report.html").read_bytes()


def test_inlined_figures_do_not_share_ids(run: tuple[Path, list[str]]) -> None:
    folder = run[0] / "figures"
    first, second = (
        inline_svg(folder / name, "a & b") for name in ("loss.svg", "learning_rate.svg")
    )
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    assert 'aria-label="a &amp; b"' in first
    assert "<style" not in first


def provenance(root: Path, manifests: list[str], output: Path) -> subprocess.CompletedProcess:
    arguments = [
        "--name",
        "small",
        "--config",
        "config/demo.yaml",
        "--tables",
        root / "tables",
        "--figures",
        root / "figures",
    ]
    return script(
        "provenance", *manifests, *arguments, "--report", root / "report.html", "--output", output
    )


@pytest.fixture(scope="module")
def folder(run: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run's crate."""
    output = tmp_path_factory.mktemp("crate") / "crate"
    done = provenance(*run, output)
    assert done.returncode == 0, done.stderr
    return output


def test_the_crate_loads_back_and_holds_what_it_names(
    run: tuple[Path, list[str]], folder: Path
) -> None:
    root, _ = run
    crate = ROCrate(folder)
    assert crate.mainEntity.id == "Snakefile"
    assert set(crate.mainEntity.type) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/Apache-2.0"
    held = [
        entity
        for entity in crate.data_entities
        if "File" in ([entity.type] if isinstance(entity.type, str) else entity.type)
    ]
    here = [entity for entity in held if ":" not in entity.id]
    assert len(here) > 50
    for entity in here:
        assert sha256_file(folder / entity.id) == entity["sha256"], entity.id
    elsewhere = {entity["sha256"] for entity in held if entity.id.startswith("ni:///sha-256;")}
    assert sha256_file(root / "packages" / "texts-1.0-py3-none-any.whl") in elsewhere
    assert sha256_file(root / "models" / "ita" / "240" / "model.safetensors") in elsewhere
    assert {path.name for path in (folder / "tables").iterdir()} == {
        path.name for path in (root / "tables").glob("*.csv")
    }


def test_the_crate_has_an_action_for_every_manifest(folder: Path) -> None:
    crate = ROCrate(folder)
    actions = {action.id: action for action in crate.get_by_type("CreateAction")}
    step = actions["#checkpoint/ita/160"]
    assert step["instrument"].id == "scripts/pretrain.py"
    assert {part.id for part in step["object"]} >= {
        "manifests/checkpoint/ita/80.json",
        "manifests/tokens/ita_bible/00000.json",
    }
    assert actions["#model/nesso-instruct/dpo"]["instrument"].id == "scripts/posttrain.py"
    whole = actions["#run"]
    assert whole["instrument"].id == "Snakefile"
    assert "report.html" in {part.id for part in whole["result"]}
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    known = {entity["@id"] for entity in graph}
    for entity in graph:
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict) and "@id" in item and not item["@id"].startswith("http"):
                    assert item["@id"] in known, (entity["@id"], item)


def test_the_crate_names_nothing_of_the_machine(run: tuple[Path, list[str]], folder: Path) -> None:
    text = (folder / "ro-crate-metadata.json").read_text()
    assert not re.search(
        rf"\b{re.escape(platform.node())}\b", text
    )  # a short name may stand within a hash
    assert str(run[0]) not in text


def test_bad_input_is_one_line(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, manifests = run
    for done, part in (
        (script("plot", "--tables", tmp_path, "--output", tmp_path / "f"), "no such table"),
        (
            script(
                "report",
                *manifests,
                "--name",
                "x",
                "--tables",
                root / "tables",
                "--figures",
                tmp_path,
                "--output",
                tmp_path / "r.html",
            ),
            "index.json: no such file",
        ),
        (
            script(
                "report",
                tmp_path / "n.json",
                "--name",
                "x",
                "--tables",
                root / "tables",
                "--figures",
                root,
                "--output",
                tmp_path / "r.html",
            ),
            "no such manifest",
        ),
        (provenance(tmp_path, manifests, tmp_path / "crate"), "report.html: no such file"),
    ):
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert part in done.stderr
    assert (
        not (tmp_path / "f").exists()
        and not (tmp_path / "r.html").exists()
        and not (tmp_path / "crate").exists()
    )


def test_scores_on_a_terminal(run: tuple[Path, list[str]]) -> None:
    done = script("show_scores", run[0])
    assert done.returncode == 0, done.stderr
    assert f"report: {run[0] / 'report.html'}" in done.stdout
    assert "The base models learn: yes (12 of 12)" in done.stdout
    assert re.search(r"^ita 240 +2\.304 +0\.452$", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_numbers_as_they_are_written() -> None:
    assert number(-0.1234) == "−0.123"
    assert number(None) == number(float("nan")) == "–"
    assert count(1966080) == "1\u2009966\u2009080"
    assert short(1_966_080) == "1.97\u2009M"
    assert short(12) == "12"
    assert (scientific(3.8e-6), scientific(0)) == ("3.8\u2009×\u200910⁻⁶", "0")
    assert [duration(seconds) for seconds in (0.84, 45.2, 185, 7440)] == [
        "0.8\u2009s",
        "45\u2009s",
        "3\u2009min 05\u2009s",
        "2\u2009h 04\u2009min",
    ]
    assert [memory(megabytes) for megabytes in (812.4, 2457.6)] == ["812\u2009MB", "2.4\u2009GB"]


@pytest.mark.parametrize(
    ("answers", "calls", "passed"),
    [(0.9, 0.2, True), (0.2, 0.95, True), (0.5, 0.5, False), (0.2, 0.3, False)],
)
def test_turns_end_in_the_form_that_a_model_was_trained_on(
    answers: float, calls: float, passed: bool
) -> None:
    def row(task: str, metric: str, value: float) -> dict:
        error = (value * (1 - value) / 24) ** 0.5
        return {
            "model": "m",
            "checkpoint": "sft",
            "kind": "posttrained",
            "task": task,
            "metric": metric,
            "value": value,
            "stderr": error,
            "n": 24,
        }

    rows = [row("chat_eng", "ends_turn", answers), row("chat_ita", "ends_turn", answers)]
    rows += [row("tools_eng", "ends_turn", calls), row("tools_eng", "valid_call", 0.1)]
    (case,) = ends_turns(pd.DataFrame(rows)).cases
    assert case.passed == passed
    assert (
        f"{answers:.0%} of 48 answers" in case.detail
        and f"{calls:.0%} of 24 tool calls" in case.detail
    )


def test_cases_of_tool_use_stand_beside_the_published_ones(
    run: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """A run without such a suite has no table; one with it has a column for each model."""
    root, manifests = run
    heading = "Tool use: the 100 cases"
    assert heading not in (root / "report.html").read_text(encoding="utf-8")
    shutil.copytree(root / "tables", tmp_path / "tables")
    cases = pd.read_csv(tmp_path / "tables/agentic.csv")
    assert set(cases["source"]) == {"published"}
    own = {"source": "run", "model": "nesso-agentic", "checkpoint": "sft", "category": "single"}
    own |= {"eng": 3, "ita": 4, "passed": 7, "cases": 10}
    part = own | {"category": "par_same", "eng": 2, "ita": None, "passed": 2, "cases": 5}
    table = pd.concat([pd.DataFrame([own, part]), cases])
    table.to_csv(tmp_path / "tables/agentic.csv", index=False)
    folders = ["--tables", tmp_path / "tables", "--figures", root / "figures"]
    page = tmp_path / "report.html"
    done = script("report", *manifests, "--name", "small", *folders, "--output", page)
    assert done.returncode == 0, done.stderr
    shown = re.sub(r"\s+", " ", Page(page.read_text(encoding="utf-8")).text)
    assert heading in shown and "nesso-agentic sft" in shown
    assert "single7 (4 + 3)9" in shown.replace(" single", "single") and "2 of 5" in shown
