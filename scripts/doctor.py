"""Say what this machine has and lacks for the pipeline, with the remedies.

The program needs the standard library only, and works before the set-up.

    python3 scripts/doctor.py

Exit status 1 where the demo cannot run here; 0 otherwise. Written for Python 3.6 and newer, to say
what is wrong with an older one.
"""
# ruff: noqa: UP021, UP022, UP045, UP007

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple, Optional
from urllib.parse import urlparse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECONDS = 4  # that a registry may take to answer
DEMO_GB, CPU_GB, CUDA_GB = (
    4,
    15,
    60,
)  # disk: the demo, tests and images at ease, images of a CUDA build
MEMORY_GB = 4
NEW_USER = 0x10000000  # CLONE_NEWUSER, sched.h


class Finding(NamedTuple):
    """One line of the page."""

    # ok, note (something is slower, or missing that the demo does not need), lacks (the demo cannot
    # run)
    state: str
    what: str
    detail: str
    remedy: str


def ok(what: str, detail: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding("ok", what, detail, "")


def said(*command: str) -> Optional[str]:
    """Return the first line that a command prints, or None where it is missing, fails or hangs."""
    try:
        done = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True
        )
        output = done.communicate(timeout=20)[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return output.splitlines()[0] if done.returncode == 0 and output else None


def set_up() -> Any:
    """Return what the set-up wrote; empty before it, None where the file is damaged."""
    path = os.path.join(ROOT, ".tools/platform.json")
    try:
        with open(path) as opened:
            return json.load(opened)
    except OSError:
        return {}
    except ValueError:
        return None


def system() -> Finding:
    """Return the system's name and the kind of processor."""
    name = "Linux"
    if os.path.exists("/etc/os-release"):
        with open("/etc/os-release") as opened:
            match = re.search(r'^PRETTY_NAME="?([^"\n]*)', opened.read(), re.MULTILINE)
        name = match.group(1) if match else name
    whole = "{}, {}, glibc {}".format(name, platform.machine(), platform.libc_ver()[1] or "unknown")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return Finding("note", "system", whole, "tried on x86_64 Linux alone (docs/platforms.md)")
    return ok("system", whole)


def python() -> Finding:
    """Return the Python that the set-up would take."""
    command = [os.path.join(ROOT, "scripts/setup/find_python.sh")]
    done = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    path, error = (text.strip() for text in done.communicate())
    if done.returncode:
        return Finding(
            "lacks", "Python", "none from 3.11 to 3.14 that serves", error.replace("error: ", "")
        )
    return ok(
        "Python",
        "{} ({})".format(
            said(path, "-c", "import platform; print(platform.python_version())"), path
        ),
    )


def tools() -> Finding:
    """Return which of the commands that everything needs are there."""
    missing = [name for name in ("git", "make", "tar") if not shutil.which(name)]
    if missing:
        return Finding(
            "lacks",
            "tools",
            "no " + ", ".join(missing),
            "apt install / dnf install " + " ".join(missing),
        )
    return ok("tools", "git, make, tar")


def folder() -> Finding:
    """Return whether the repository's folder can be written."""
    try:
        with tempfile.TemporaryFile(dir=ROOT):
            return ok("folder", ROOT)
    except OSError as error:
        return Finding(
            "lacks", "folder", f"{ROOT}: {error.strerror}", "clone to a folder of your own"
        )


def containers() -> Finding:
    """Return the program that runs images.

    The set-up's, the machine's own, or whether a private one can be had.
    """
    facts = set_up()
    if facts is None:
        return Finding(
            "note", "containers", ".tools/platform.json is damaged", "remove it and run make setup"
        )
    if facts.get("software") == "venv":
        return ok("containers", "none wanted (set up with SOFTWARE=venv)")
    if facts.get("apptainer"):
        version = said(facts["apptainer"], "--version")
        if version is None:
            return Finding(
                "note", "containers", facts["apptainer"] + " does not start any more", "make setup"
            )
        return ok(
            "containers",
            "{}; images as {}, {}".format(
                version, facts["image"], " ".join(facts["exec_arguments"]) or "no arguments"
            ),
        )
    own = shutil.which("apptainer") or shutil.which("singularity")
    if own:
        return ok(
            "containers",
            "{} ({}); make setup tries what it can do".format(said(own, "--version"), own),
        )
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return ok(
            "containers",
            "no Apptainer; make setup puts Debian's into .tools where Debian's archive answers",
        )
    return Finding(
        "note",
        "containers",
        "no Apptainer, no apt",
        "module load apptainer; dnf install apptainer; or make demo SOFTWARE=venv",
    )


def namespaces() -> Finding:
    """Return whether a user may make user namespaces, which unprivileged containers need.

    Tried in a process of its own.
    """
    code = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({NEW_USER}) != 0)"
    if subprocess.call([sys.executable, "-c", code], stderr=subprocess.DEVNULL) == 0:
        return ok("user namespaces", "yes")
    remedy = (
        "root: sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1; or "
        "make demo SOFTWARE=venv"
    )
    return Finding("note", "user namespaces", "not allowed", remedy)


def fuse() -> Finding:
    """Return whether a user can mount images."""
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        return ok("/dev/fuse", "can be opened")
    return Finding(
        "note",
        "/dev/fuse",
        "missing or closed",
        "nothing to do: images are made as folders where they cannot be mounted",
    )


def disk() -> Finding:
    """Return the room of the repository's disk."""
    free = shutil.disk_usage(ROOT).free / 1e9
    free_space = f"{free:.0f} GB free"
    if free < DEMO_GB:
        return Finding(
            "lacks", "disk", free_space, f"the demo needs {DEMO_GB} GB on the disk of {ROOT}"
        )
    if free < CPU_GB:
        return Finding(
            "note",
            "disk",
            free_space,
            f"enough for the demo; tests need {CPU_GB} GB, images of a CUDA build {CUDA_GB}",
        )
    return ok(
        "disk",
        free_space
        + ("" if free >= CUDA_GB else f" (all images of a CUDA build need {CUDA_GB} GB)"),
    )


def memory() -> Finding:
    """Return memory: the machine's, or that of a control group that limits it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(path):
            with open(path) as opened:
                text = opened.read().strip()
            whole = min(whole, int(text)) if text.isdigit() else whole
    size = f"{whole / 1e9:.1f} GB"
    if whole < 0.95 * MEMORY_GB * 1e9:
        return Finding("lacks", "memory", size, f"the demo needs {MEMORY_GB} GB")
    return ok("memory", size)


def processor() -> Finding:
    """Return cores, and the instructions that the speed of training depends on."""
    with open("/proc/cpuinfo") as opened:
        text = opened.read()
    flags = (re.findall(r"^flags\s*:\s*(.*)$", text, re.MULTILINE) or [""])[0].split()
    model = (
        re.findall(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
        or [platform.processor() or "unknown"]
    )[0]
    names = (
        ("avx512f", "AVX-512"),
        ("avx512_bf16", "AVX-512 BF16"),
        ("amx_bf16", "AMX"),
        ("avx2", "AVX2"),
    )
    cores = len(os.sched_getaffinity(0))
    description = "{} cores, {}, {}".format(
        cores, model, ", ".join(name for flag, name in names if flag in flags) or "no AVX2"
    )
    if "avx512f" not in flags:
        return Finding(
            "note",
            "processor",
            description,
            "without AVX-512 the demo's training takes three to four times as long",
        )
    if cores < 2:
        return Finding("note", "processor", description, "the demo takes twice as long on one core")
    return ok("processor", description)


def gpu() -> Finding:
    """Return the GPU, its driver, and the build of torch that fits."""
    if not shutil.which("nvidia-smi"):
        if os.path.exists("/dev/kfd"):
            return Finding(
                "note",
                "GPU",
                "AMD's, by /dev/kfd",
                "torch: rocm has no lock yet (docs/platforms.md); torch: cpu",
            )
        return ok("GPU", "none (torch: cpu)")
    line = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    line = line or ""
    version = tuple(map(int, re.findall(r"\d+", line.split(",")[-1])))
    if not version:
        return Finding(
            "note",
            "GPU",
            "nvidia-smi answers nothing",
            "look at nvidia-smi itself; without a GPU: torch: cpu",
        )
    try:
        from zagreus.platform.builds import BUILDS
        from zagreus.platform.driver import newest_for, show
    except (ImportError, SyntaxError):  # an older Python; the line on Python says so
        return ok("GPU", line)
    build = newest_for(version, BUILDS.values())
    if build is None:
        oldest = min(candidate.driver for candidate in BUILDS.values() if candidate.driver)
        return Finding(
            "note",
            "GPU",
            line,
            f"the driver is older than {show(oldest)}: a newer one, or torch: cpu",
        )
    return ok("GPU", f"{line}; fits torch: {build.name}")


def slurm() -> Finding:
    """Return whether Slurm is here."""
    version = said("sinfo", "--version") if shutil.which("sinfo") else None
    return ok("Slurm", version or "none (needed for clusters alone)")


def registries() -> list:
    """Return for each registry whether something answers at its address."""
    remedy = (
        "pip config set global.index-url URL; or bring resources/wheels from another machine "
        "(docs/images.md)"
    )
    findings = [answering("package index", index_address(), "lacks", remedy)]
    archive = archive_address()
    if archive:
        findings.append(
            answering(
                "Debian's archive",
                archive,
                "note",
                "the base image from the container registry: make setup BASE=registry",
            )
        )
    remedy = (
        "needed only without Debian's archive; a mirror: make setup REGISTRY=HOST; or bring "
        "a base image (docs/platforms.md)"
    )
    findings.append(answering("container registry", registry_address(), "note", remedy))
    return findings


def index_address() -> str:
    """Return the address of pip's package index."""
    own = os.path.join(ROOT, ".tools/venv/bin/python")
    for command in [own] * os.path.exists(own) + [sys.executable]:
        address = said(command, "-m", "pip", "config", "get", "global.index-url")
        if address:
            return address
    return os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")


def archive_address() -> Optional[str]:
    """Return the address of Debian's archive in this machine's apt; None without one."""
    try:
        from zagreus.errors import InputError
        from zagreus.platform import debian
    except (ImportError, SyntaxError):
        return None
    try:
        return debian.find_archive(debian.read_entries()).uri
    except InputError:
        return None


def registry_address() -> str:
    """Return the address of the container registry.

    The mirror that was set, or that of containers/base.registry.
    """
    host = ((set_up() or {}).get("base") or {}).get("registry", "")
    if not host:
        with open(os.path.join(ROOT, "containers/base.registry")) as opened:
            host = [line for line in opened if line.strip() and not line.startswith("#")][0].split(
                "/"
            )[0]
    host = "registry-1.docker.io" if host == "docker.io" else host
    return host if "://" in host else "https://" + host


def answering(what: str, address: str, state: str, remedy: str) -> Finding:
    """Return whether a server, or the proxy before it, answers."""
    parts = urlparse(address)
    if parts.scheme == "file":
        return ok(what, address)
    proxy = os.environ.get(parts.scheme + "_proxy") or os.environ.get(
        parts.scheme.upper() + "_PROXY"
    )
    target = urlparse(proxy if "://" in proxy else "http://" + proxy) if proxy else parts
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        socket.create_connection((target.hostname, port), timeout=SECONDS).close()
    except (OSError, ValueError) as error:
        return Finding(state, what, f"{parts.hostname} does not answer: {error}", remedy)
    return ok(what, "{} answers{}".format(parts.hostname, " (through a proxy)" if proxy else ""))


def main() -> None:
    """Print the page; exit with 1 where the demo cannot run."""
    sys.path.insert(0, ROOT)
    findings = [
        system(),
        python(),
        tools(),
        folder(),
        containers(),
        namespaces(),
        fuse(),
        disk(),
        memory(),
        processor(),
        gpu(),
        slurm(),
    ]
    findings += registries()
    for finding in findings:
        print(f"{finding.state:5}  {finding.what:18} {finding.detail}")
        if finding.remedy:
            print("{:25} -> {}".format("", finding.remedy))
    lacking = [finding.what for finding in findings if finding.state == "lacks"]
    print(
        "\nThe demo cannot run here: " + ", ".join(lacking)
        if lacking
        else "\nThe demo can run here: make demo"
    )
    sys.exit(1 if lacking else 0)


if __name__ == "__main__":
    main()
