"""The run as an RO-Crate.

The workflow, every artifact with its sha256, and one action for each manifest.

Follows the profiles Process Run Crate and Workflow Run Crate 0.6 and Workflow RO-Crate 1.1 on
RO-Crate 1.3: the main entity is the Snakefile; each script is a tool and a part of it; each
manifest is a CreateAction of its script from its inputs to its outputs. Small files (workflow,
tables, figures, report, manifests) are in the crate. Large ones (text, shards, weights) are
described by the URI of their content, `ni:///sha-256;...` (RFC 6920), so that the crate names the
very bytes and stays small enough to send.
"""

from __future__ import annotations

import base64
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from zagreus.config.yaml_file import read_mapping
from zagreus.errors import InputError
from zagreus.manifest import sha256_file
from zagreus.reporting.jobs import rule_of
from zagreus.reporting.lineage import Lineage, Node

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.6": ("Process Run Crate", "0.6"),
    "https://w3id.org/ro/wfrun/workflow/0.6": ("Workflow Run Crate", "0.6"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.1": ("Workflow RO-Crate", "1.1"),
}
# Terms that these profiles add to those of RO-Crate.
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
FORMATS = {
    ".csv": "text/csv",
    ".svg": "image/svg+xml",
    ".html": "text/html",
    ".json": "application/json",
    ".yaml": "application/yaml",
}


def write_crate(
    folder: Path,
    *,
    name: str,
    lineage: Lineage,
    citation: Path,
    workflow: list[Path],
    config: Path,
    results: dict[str, list[Path]],
) -> None:
    """Write the crate of a run into an empty folder.

    Args:
        folder: the crate's root.
        name: the run's name.
        lineage: the run's manifests.
        citation: CITATION.cff, for title, licence and authors.
        workflow: the workflow's files, its Snakefile first; paths relative to the repository's
            root.
        config: the configuration of the run.
        results: what the run ends in, by the folder of the crate that it goes to: {"tables": [...],
            "figures": [...], "": [report]}.

    Raises:
        InputError: a file is missing, or the citation lacks title, license or authors.
    """
    for file in [
        citation,
        *workflow,
        config,
        *(path for paths in results.values() for path in paths),
    ]:
        if not file.is_file():
            raise InputError(f"{file}: no such file, the crate is to hold it")
    about = _citation(citation)
    crate = ROCrate()
    # jsonld order is that of adding: the same run gives the same file but for its dates.
    crate.metadata.extra_contexts.append(CONTEXT)
    crate.metadata["conformsTo"] = [
        {"@id": "https://w3id.org/ro/crate/1.3"},
        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.1"},
    ]
    profiles = [
        crate.add(
            ContextEntity(
                crate, url, properties={"@type": "CreativeWork", "name": title, "version": version}
            )
        )
        for url, (title, version) in PROFILES.items()
    ]
    crate.root_dataset["conformsTo"] = profiles
    crate.name = f"{about['title']}: run {name}"
    crate.description = f"A run of the workflow: {about.get('abstract', about['title'])}"
    licence = ContextEntity(
        crate,
        f"https://spdx.org/licenses/{about['license']}",
        properties={"@type": "CreativeWork", "name": about["license"]},
    )
    crate.root_dataset["license"] = crate.add(licence)
    crate.root_dataset["author"] = [
        crate.add(
            ContextEntity(
                crate,
                f"#author-{number}",
                properties={
                    "@type": "Organization" if "name" in who else "Person",
                    "name": _name(who),
                },
            )
        )
        for number, who in enumerate(about["authors"], 1)
    ]
    ended = [node.run["finished"] for node in lineage.nodes.values() if "finished" in node.run]
    if ended:
        crate.datePublished = datetime.fromisoformat(max(ended))

    main = crate.add_workflow(
        workflow[0],
        str(workflow[0]),
        main=True,
        lang="snakemake",
        properties=_file_facts(workflow[0]) | {"name": about["title"]},
    )
    main["version"] = about.get("version")
    tools: dict[str, Entity] = {}
    parts = []
    for file in workflow[1:]:
        properties = _file_facts(file) | {"name": str(file)}
        if file.parent.name == "scripts":
            properties["@type"] = ["File", "SoftwareApplication"]
        parts.append(crate.add_file(file, str(file), properties=properties))
        if file.parent.name == "scripts":
            tools[file.stem] = parts[-1]
    main["hasPart"] = parts

    entities: dict[str, Entity] = {}
    for node in lineage.nodes.values():
        _add_artifact(crate, lineage, node, tools, entities)
    settings = crate.add_file(
        config,
        f"config/{config.name}",
        properties=_file_facts(config) | {"name": "configuration of the run"},
    )
    ends = [
        crate.add_file(
            path,
            f"{subfolder}/{path.name}".lstrip("/"),
            properties=_file_facts(path) | {"name": path.name},
        )
        for subfolder, paths in results.items()
        for path in paths
    ]
    made = {item["sha256"] for node in lineage.nodes.values() for item in node.manifest["outputs"]}
    begun = {
        item["sha256"]: item
        for node in lineage.nodes.values()
        for item in node.files
        if item["sha256"] not in made
    }
    run = {
        "@type": "CreateAction",
        "name": f"Run {name}",
        "instrument": main,
        "object": [settings, *(entities[_uri(sha256)] for sha256 in begun)],
        "result": ends,
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if ended:
        run["endTime"] = max(ended)
    crate.root_dataset["mentions"] = [
        crate.add(ContextEntity(crate, "#run", properties=run)),
        *crate.get_by_type("CreateAction"),
    ]
    with warnings.catch_warnings():
        # It warns of each file that is described and not held, which is the intention here.
        warnings.simplefilter("ignore")
        crate.write(folder)


def _add_artifact(
    crate: ROCrate,
    lineage: Lineage,
    node: Node,
    tools: dict[str, Entity],
    entities: dict[str, Entity],
) -> None:
    """Add a manifest as a file of the crate, what it describes as content, and the action that made
    it.
    """
    for item in [*node.files, *node.manifest["outputs"]]:
        uri = _uri(item["sha256"])
        if uri not in entities:
            properties = {
                "name": Path(item["path"]).name,
                "sha256": item["sha256"],
                "contentSize": str(item["bytes"]),
            }
            entities[uri] = crate.add_file(uri, properties=properties)
    held = f"manifests/{node.kind}/{node.name}.json"
    properties = {
        "name": f"{node.kind} {node.name}",
        "sha256": node.sha256,
        "contentSize": str(Path(node.path).stat().st_size),
        "encodingFormat": "application/json",
        "about": [entities[_uri(item["sha256"])] for item in node.manifest["outputs"]],
    }
    entities[node.path] = crate.add_file(node.path, held, properties=properties)
    rule = rule_of(lineage, node.path)
    action: dict[str, Any] = {
        "@type": "CreateAction",
        "name": f"{rule} {node.name}",
        "object": [entities[parent] for parent in node.parents]
        + [entities[_uri(item["sha256"])] for item in node.files],
        "result": [
            entities[node.path],
            *(entities[_uri(item["sha256"])] for item in node.manifest["outputs"]),
        ],
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if rule in tools:
        action["instrument"] = tools[rule]
    if "finished" in node.run:
        end = datetime.fromisoformat(node.run["finished"])
        action |= {
            "startTime": (end - timedelta(seconds=node.run["seconds"])).isoformat(
                timespec="seconds"
            ),
            "endTime": end.isoformat(),
        }
    action["object"].append(_software(crate, node, entities))
    crate.add(ContextEntity(crate, f"#{node.kind}/{node.name}", properties=action))


def _software(crate: ROCrate, node: Node, entities: dict[str, Entity]) -> Entity:
    """The image, or virtual environment, that an artifact was made in, with the versions that the
    manifests made in it name.
    """
    key = f"#software/{node.manifest['software']}"
    if key not in entities:
        entities[key] = crate.add(
            SoftwareApplication(crate, key, properties={"name": node.manifest["software"]})
        )
    requirements = []
    for package, version in node.manifest.get("versions", {}).items():
        dependency = f"#package/{package}-{version}"
        if dependency not in entities:
            properties = {"name": package, "softwareVersion": version}
            entities[dependency] = crate.add(
                SoftwareApplication(crate, dependency, properties=properties)
            )
        requirements.append(entities[dependency])
    known = entities[key].get("softwareRequirements") or []
    known = known if isinstance(known, list) else [known]
    entities[key]["softwareRequirements"] = known + [
        requirement for requirement in requirements if requirement not in known
    ]
    return entities[key]


def _uri(sha256: str) -> str:
    """Return the URI of a content by its sha256 (RFC 6920)."""
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")


def _file_facts(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"sha256": sha256_file(path), "contentSize": str(path.stat().st_size)}
    if path.suffix in FORMATS:
        facts["encodingFormat"] = FORMATS[path.suffix]
    return facts


def _citation(path: Path) -> dict[str, Any]:
    about = read_mapping(path)
    missing = [key for key in ("title", "license", "authors") if not about.get(key)]
    if missing:
        raise InputError(f"{path}: no '{missing[0]}', which the crate is to state")
    return about


def _name(author: dict[str, str]) -> str:
    return author.get("name") or " ".join(
        filter(None, (author.get("given-names"), author.get("family-names")))
    )
