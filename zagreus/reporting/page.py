"""The report.

One HTML page with its pictures and its style inside, which asks nothing of a network.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from zagreus.errors import InputError
from zagreus.languages import language_name
from zagreus.reporting import cells, exports, ladder, sections
from zagreus.reporting.agentic import side_by_side
from zagreus.reporting.at_chance import chance_rows
from zagreus.reporting.checks import Case, Check, checks
from zagreus.reporting.contamination import contamination_artifacts
from zagreus.reporting.diagram import family_diagram
from zagreus.reporting.distillation import distillation_table
from zagreus.reporting.evidence import Evidence
from zagreus.reporting.inline import inline_svg
from zagreus.reporting.jobs import rule_of, rule_summary
from zagreus.reporting.lineage import Lineage, Node
from zagreus.reporting.long_context import needle_tables
from zagreus.reporting.plan_figure import plan_figure
from zagreus.reporting.replication import STATUS, TITLES
from zagreus.reporting.stages import stage_diagram
from zagreus.reporting.tables import STANDARD_ERRORS, read_tables, source_table
from zagreus.reporting.walk import anchor, walk_back

TEMPLATES = Path(__file__).parent / "templates"
TABLES = (
    "scores",
    "agentic",
    "training",
    "tokens",
    "mixture",
    "models",
    "replication",
    "contradictions",
    "jobs",
    "throughput",
    "plan",
    "left_out",
)
COMPARISONS = ("paired", "signal", "contamination", "contaminated_items", "clean_scores")
EXPORTS = ("exports", "export_speeds")
SECTIONS = ("training", "heldout", "scores", "comparison", "posttraining", "exports")

# Of a source in more shards than this, the page lists the first ones; tokens.csv has all.
LISTED_SHARDS = 200


def render(name: str, lineage: Lineage, tables_folder: Path, figures_folder: Path) -> str:
    """Return the page of a run.

    Args:
        name: the run's name, for the title.
        lineage: the manifests behind the run's scores and samples.
        tables_folder: what `tabulate` wrote.
        figures_folder: what `plot` wrote.

    Raises:
        InputError: a table or figure is missing, or samples are not in the contract's form.
    """
    tables = read_tables(tables_folder, (*TABLES, *COMPARISONS, *EXPORTS))
    evidence = Evidence(lineage)
    models, scores, jobs = tables["models"], tables["scores"], tables["jobs"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": cells.number,
        "count": cells.count,
        "percent": cells.percent,
        "short": cells.short,
        "duration": cells.duration,
        "memory": cells.memory,
        "signed": cells.signed,
        "digest": lambda sha256: sha256[:12],
    }
    rules = rule_summary(jobs)
    return environment.get_template("report.html.j2").render(
        name=name,
        evidence=Markup(evidence.json()),
        javascript=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        score=lambda model, checkpoint, task, metric: evidence.score.get(
            (str(model), str(checkpoint), task, metric)
        ),
        artifact=evidence.artifact.get,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        family=_family(models, tables["training"]),
        manifests={
            (node.manifest["model"], str(node.manifest["checkpoint"])): node.path
            for node in lineage.of_kind("model")
        },
        facts=_facts(tables),
        checks=[*checks(scores, models), _conversion(lineage), _provenance(lineage)],
        diagram=Markup(family_diagram(models, tables["mixture"], tables["tokens"])),
        stages=Markup(stage_diagram(lineage)),
        sources=source_table(tables["tokens"], jobs).to_dict("records"),
        first_shard=_first_shards(lineage),
        shards=_shards(lineage, tables["tokens"]),
        all_shards=len(tables["tokens"]),
        left_out=tables["left_out"].to_dict("records"),
        mixture=_mixture(tables["mixture"]),
        walks=[walk_back(lineage, node) for node in _finished(lineage, models)],
        figures=_figures(figures_folder),
        needles=needle_tables(scores),
        distillations=distillation_table(lineage).to_dict("records"),
        grids=cells.score_grids(scores),
        set_aside=sections.set_aside(scores),
        at_chance=chance_rows(scores),
        cases=side_by_side(tables["agentic"]),
        anchor=anchor,
        language_name=language_name,
        last={row.model: row.checkpoint for row in models.itertuples()},
        published=_published(tables_folder, models),
        replication=_replication(tables["replication"]),
        statuses=[
            (status, int((tables["replication"]["status"] == status).sum())) for status in STATUS
        ],
        contradictions=tables["contradictions"].fillna("").to_dict("records"),
        contamination=sections.contamination(tables),
        overlaps=contamination_artifacts(lineage),
        paired=sections.paired(tables["paired"]),
        signal=sections.signal(tables["signal"]),
        prompts=sections.texts(lineage, models),
        exports=exports.listed(tables["exports"], tables["export_speeds"], lineage),
        ladder=ladder.section(lineage, tables["training"]),
        throughput=tables["throughput"].to_dict("records"),
        trained={
            node.manifest["model"]: node.path
            for node in sorted(
                lineage.of_kind("checkpoint"), key=lambda node: node.manifest["step"]
            )
        },
        rules_that_made=evidence.rules,
        plan=Markup(plan_figure(tables["plan"])),
        rules=rules.to_dict("records"),
        longest=float(rules["seconds"].max()) if len(rules) else 1.0,
        untimed=_untimed(lineage, jobs),
        sources_of_times=sorted(set(jobs["source"])),
        speeds=_speeds(jobs),
        software=_software(lineage),
        commits=sorted(
            {
                node.run["git_commit"]
                for node in lineage.nodes.values()
                if node.run.get("git_commit")
            }
        ),
        standard_errors=f"{STANDARD_ERRORS:g}",
    )


def _family(models: pd.DataFrame, training: pd.DataFrame) -> list[dict[str, Any]]:
    """The models, one row each, with the end of their training."""
    rows = []
    for model, model_rows in models.groupby("model", sort=False):
        last = model_rows.iloc[-1]
        log = training[training["model"] == model]
        stages = {
            stage: lines["loss"].tail(max(1, len(lines) // 20)).mean()
            for stage, lines in log.groupby("stage", sort=False)
        }
        rows.append(
            {
                **last.to_dict(),
                "checkpoints": model_rows["checkpoint"].tolist(),
                "losses": stages,
                "steps": len(log),
            }
        )
    return rows


def _facts(tables: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """The run in a few numbers."""
    models, tokens, scores, jobs = (
        tables["models"],
        tables["tokens"],
        tables["scores"],
        tables["jobs"],
    )
    kinds = models.drop_duplicates("model")["kind"].value_counts()
    trained = models[models["kind"] == "base"].groupby("model")["tokens"].max().sum()
    sizes = models.loc[models["kind"] == "base", "parameters"].dropna()
    facts = [
        (
            f"{kinds.get('base', 0)} + {kinds.get('posttrained', 0)}",
            "models, base and post-trained",
        ),
        (cells.short(sizes.max() if len(sizes) else None), "parameters each"),
        (cells.short(tokens["tokens"].sum()), f"tokens from {tokens['source'].nunique()} sources"),
        (cells.short(trained), "tokens trained on, all base models"),
        (cells.count(len(scores)), f"scores of {len(models)} checkpoints"),
    ]
    if len(jobs):
        facts.append((cells.duration(jobs["seconds"].sum()), f"in {len(jobs)} jobs, added up"))
    return facts


def _conversion(lineage: Lineage) -> Check:
    """The exported models compute what the trainer's own model computed."""
    check = Check(
        "The converted models are the trained ones",
        "Largest difference between a logit of the trainer’s model and of the converted one, on "
        "held-out text: within rounding",
    )
    for node in lineage.of_kind("model"):
        if "logit_difference" in node.manifest:
            difference, allowed = (
                node.manifest["logit_difference"],
                node.manifest["logit_difference_allowed"],
            )
            check.cases.append(
                Case(
                    node.name,
                    difference <= allowed,
                    f"{cells.scientific(difference)}, allowed {cells.scientific(allowed)}",
                )
            )
    return check


def _provenance(lineage: Lineage) -> Check:
    """Every artifact was made from what stands there now."""
    links, broken = lineage.check()
    check = Check(
        "Every number can be walked back to its source",
        "The sha256 that each artifact recorded of each of its inputs is that input’s sha256 now",
    )
    check.cases = [Case(link, False, "the input has changed since") for link in broken]
    if links and not broken:
        check.cases.append(
            Case(f"{len(lineage.nodes)} manifests", True, f"{links} links, every one holds")
        )
    return check


def _shards(lineage: Lineage, tokens: pd.DataFrame) -> list[dict[str, Any]]:
    """The shards, each with the path of its manifest."""
    paths = {node.name: node.path for node in lineage.of_kind("tokens")}
    return [
        {**row, "path": paths.get(f"{row['source']}/{row['task']}")}
        for row in tokens.head(LISTED_SHARDS).to_dict("records")
    ]


def _first_shards(lineage: Lineage) -> dict[str, str]:
    """What a click on a source's tokens opens.

    What stands for all of its shards, or where nothing does the first of them.
    """
    paths: dict[str, str] = {}
    for kind in ("token_index", "tokens"):
        for node in lineage.of_kind(kind):
            paths.setdefault(node.name.partition("/")[0], node.path)
    return paths


def _mixture(mixture: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    return {model: rows.to_dict("records") for model, rows in mixture.groupby("model", sort=False)}


def _finished(lineage: Lineage, models: pd.DataFrame) -> list[Node]:
    last = {
        (row.model, row.checkpoint)
        for row in models.drop_duplicates("model", keep="last").itertuples()
    }
    order = list(dict.fromkeys(models["model"]))
    nodes = [
        node
        for node in lineage.of_kind("model")
        if (node.manifest["model"], str(node.manifest["checkpoint"])) in last
    ]
    return sorted(nodes, key=lambda node: order.index(node.manifest["model"]))


def _figures(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The figures by section, each with its SVG."""
    index = folder / "index.json"
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{index}: no such file, expected what plot writes") from None
    figures: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for figure in listed:
        svg = inline_svg(folder / figure["file"], f"{figure['title']}. {figure['caption']}")
        figures[figure["section"]].append({**figure, "svg": Markup(svg)})
    return figures


def _published(folder: Path, models: pd.DataFrame) -> list[dict[str, Any]]:
    """The tables in the published layout, ready to be written: header and rows as text."""
    tables = []
    for model in models.loc[models["kind"] != "baseline", "model"].drop_duplicates():
        name = f"published_{model}"
        table = read_tables(folder, [name])[name].astype({"checkpoint": str})
        columns = [
            column for column in table.columns if column not in ("model", "checkpoint", "step")
        ]
        if columns:
            rows = [
                (
                    row["model"],
                    row["checkpoint"],
                    [
                        (column.partition(":")[::2], cells.number(row[column], 4))
                        for column in columns
                    ],
                )
                for _, row in table.iterrows()
            ]
            tables.append({"model": model, "columns": columns, "rows": rows})
    return tables


def _replication(replication: pd.DataFrame) -> list[dict[str, Any]]:
    """The published numbers by table, each with its row as text."""
    tables = []
    for table, rows in replication.groupby("table", sort=True):
        lines = [
            (
                row.row,
                row.quantity,
                cells.number(row.published, 4),
                cells.number(row.ours, 4),
                cells.number(row.standard_errors, 1),
                row.status,
                "" if pd.isna(row.note) else row.note,
                (row.model, row.checkpoint, row.task, row.metric),
            )
            for row in rows.itertuples()
        ]
        tables.append({"title": TITLES.get(int(str(table)), f"Table {table}"), "rows": lines})
    return tables


def _untimed(lineage: Lineage, jobs: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Rules of which some jobs have no time: the rule, how many have none, of how many."""
    timed = jobs["rule"].value_counts()
    made = Counter(
        rule for rule in (rule_of(lineage, path) for path in lineage.nodes) if rule is not None
    )
    return [
        (rule, total - int(timed.get(rule, 0)), total)
        for rule, total in made.items()
        if timed.get(rule, 0) < total
    ]


def _speeds(jobs: pd.DataFrame) -> list[tuple[str, float]]:
    """Training speed of each model: the median over its jobs, in tokens per second."""
    measured = jobs[jobs["tokens_per_second"].notna()].copy()
    measured["model"] = measured["job"].str.partition("/")[0]
    return list(measured.groupby("model", sort=False)["tokens_per_second"].median().items())


def _software(lineage: Lineage) -> list[dict[str, Any]]:
    """What ran.

    Each image (or virtual environment), the rules that ran in it, the versions that their manifests
    name.
    """
    images: dict[str, dict[str, Any]] = {}
    for path, node in lineage.nodes.items():
        image = images.setdefault(node.manifest["software"], {"rules": [], "versions": {}})
        rule = rule_of(lineage, path)
        if rule and rule not in image["rules"]:
            image["rules"].append(rule)
        image["versions"] |= node.manifest.get("versions", {})
    return [
        {
            "image": image,
            "rules": entry["rules"],
            "versions": dict(sorted(entry["versions"].items())),
        }
        for image, entry in sorted(images.items())
    ]
