"""Machines that differ from the one this was written on: registries, no apt, other Pythons.

A container registry runs here for the test. A namespace hides apt and dpkg. Each Python from 3.11
on that the machine has makes an environment and runs the stages that need no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from debian_packages import install
from debian_root import no_namespace

from zagreus.platform.state import read_platform

IMAGES = ROOT / "resources/images"
REGISTRY = ("docker-registry", "skopeo", "umoci")
# A root folder without Debian's tools: what a RHEL login node lacks.
HIDE_APT = """
set -e
mount --make-rprivate /
mkdir -p "$1/none"
for path in /etc/apt /var/lib/dpkg /var/lib/apt; do mount --bind "$1/none" $path; done
for program in apt-get apt dpkg dpkg-deb dpkg-query; do
    file=$(command -v $program) || continue
    touch "$1/no-$program"
    mount --bind "$1/no-$program" "$file"
done
shift
exec "$@"
"""


@pytest.fixture(scope="module")
def base() -> Path:
    """The base image that the other integration tests built."""
    images = sorted(IMAGES.glob("base-*.sif"))
    if not images:
        pytest.skip("no base image here: bin/zagreus images")
    return images[0]


@pytest.fixture(scope="module")
def registry(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A container registry with our base image in it: its address, and the image's sha256."""
    if why := install(REGISTRY):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("registry")
    oci = folder / "oci"
    with (folder / "layer.tar").open("wb") as layer:
        tar = ["tar", "--create", "--one-file-system", "--directory", "/", "."]
        subprocess.run([*inside(base), *tar], stdout=layer, check=True, stderr=subprocess.DEVNULL)
    for command in (
        ["umoci", "init", "--layout", str(oci)],
        ["umoci", "new", "--image", f"{oci}:base"],
        ["umoci", "raw", "add-layer", "--image", f"{oci}:base", str(folder / "layer.tar")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    command = ["docker-registry", "serve", str(folder / "registry.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            host, port = address.split(":")
            for _ in range(100):
                with contextlib.suppress(OSError):
                    socket.create_connection((host, int(port)), timeout=1).close()
                    break
                time.sleep(0.1)
            image = f"docker://{address}/library/python:3.11"
            done = subprocess.run(
                ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"]
                + [f"oci:{oci}:base", image],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            inspect = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", image]
            digest = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
            yield address, digest.strip()
        finally:
            server.terminate()


def build(
    reference: str, output: Path, without_apt: Path | None = None, source: str = "registry"
) -> subprocess.CompletedProcess[str]:
    """Build the base image from a registry's image or a file, or with apt and dpkg hidden."""
    apptainer = Path(read_platform(ROOT / ".tools/platform.json")["apptainer"])
    command = [str(ROOT / ".tools/venv/bin/python"), "-P", "scripts/base_image.py"]
    command += ["--source", source, "--reference", reference]
    command += ["--insecure"] if source == "registry" else []
    command += ["--digest", "0123456789ab", "--output", str(output)]
    if without_apt:
        unshare = ["unshare", "--mount", "bash", "-c", HIDE_APT, "bash", str(without_apt)]
        command = [*unshare, *command]
    environment = os.environ | {
        "PATH": f"{apptainer.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def inside(image: Path) -> list[str]:
    """Return the command that runs a program in an image."""
    platform = read_platform(ROOT / ".tools/platform.json")
    return [platform["apptainer"], "exec", "--cleanenv", *platform["exec_arguments"], str(image)]


def python_of(image: Path) -> str:
    program = "import sys; print(*sys.version_info[:2])"
    command = [*inside(image), "python3", "-c", program]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def test_a_base_image_from_a_registry_where_apt_does_not_exist(
    registry: tuple[str, str], tmp_path: Path
) -> None:
    if why := no_namespace():
        pytest.skip(why)
    address, digest = registry
    output = tmp_path / "base.sif"
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    done = build(f"{address}/library/python@{digest}", output, hidden)
    assert done.returncode == 0, done.stderr
    assert python_of(output) == "3 11"
    manifest = json.loads(output.with_suffix(".manifest.json").read_text())
    assert digest in manifest["from"]


def test_an_image_of_another_digest_is_refused_and_nothing_is_made(
    registry: tuple[str, str], tmp_path: Path
) -> None:
    address, digest = registry
    other = digest[:-4] + ("0000" if not digest.endswith("0000") else "1111")
    done = build(f"{address}/library/python@{other}", tmp_path / "base.sif")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(lines) == 1 and other in lines[0], done.stderr
    assert not list(tmp_path.glob("*.sif"))


def test_a_base_image_on_a_file(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "base.sif"
    done = build(str(base), output, source="file")
    assert done.returncode == 0, done.stderr
    assert python_of(output) == "3 11"


def pythons() -> dict[str, str]:
    """Return the machine's CPythons by version, 3.11 to 3.14: on PATH, and pyenv's."""
    folders = [*os.environ["PATH"].split(":"), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    programs: dict[str, str] = {}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        for folder in folders:
            program = Path(folder, f"python{version}")
            if "shims" in folder or not program.is_file():
                continue
            if subprocess.run([str(program), "-c", "import venv, ensurepip"]).returncode == 0:
                programs.setdefault(version, str(program))
    return programs


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_another_python_sets_up_and_runs(version: str, tmp_path: Path) -> None:
    """Set-up without images, a dry-run of everything, and the stages that need no torch."""
    program = pythons().get(version)
    if program is None:
        pytest.skip(f"no CPython {version} with venv and ensurepip here")
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    (checkout / "resources").mkdir()
    if (ROOT / "resources/wheels").is_dir():
        (checkout / "resources/wheels").symlink_to(ROOT / "resources/wheels")
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    test = ["--configfile", "config/test.yaml"]
    for command in (
        ["make", "setup", "SOFTWARE=venv", f"PYTHON={program}"],
        ["bin/zagreus", "-n", "all", *test],
        ["bin/zagreus", "tokens", *test],
    ):
        done = subprocess.run(command, cwd=checkout, env=plain, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-3000:]}"
    shards = sorted(path.name for path in (checkout / "results/test/tokens").rglob("*.ds"))
    assert shards, done.stdout
    ran = subprocess.run(
        [str(next((checkout / "resources/venvs").glob("data-*")) / "bin/python"), "--version"],
        capture_output=True,
        text=True,
    ).stdout
    assert ran.startswith(f"Python {version}.")
