"""What the system and the host's shell can do to a program.

One line, the traceback in its log, and nobody else's Python.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.full_disk import small_disk
from zagreus.errors import InputError
from zagreus.network import binds, host_variables, into_images, use_certificates
from zagreus.platform.host import prepare_host

ROOT = Path.cwd()
# How a program may end, and what its line says.
ENDS = {
    "memory": ("raise MemoryError", 74, r"out of memory \(MemoryError\); give the job more memory"),
    "torch": (
        "raise RuntimeError(\"DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 "
        'bytes. Error code 12")',
        *(74, r"out of memory \(DefaultCPUAllocator"),
    ),
    "cuda": (
        'raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")',
        74,
        r"out of memory \(CUDA",
    ),
    "numpy": (
        'class ArrayMemoryError(MemoryError): pass\nraise ArrayMemoryError("Unable to allocate 8 '
        'EiB")',
        74,
        "out of memory .Unable",
    ),
    "permission": (
        'raise PermissionError(13, "Permission denied", "/a/b")',
        74,
        "/a/b: permission denied; look at its owner and mode",
    ),
    "read-only": (
        'raise OSError(30, "Read-only file system", "/a/b")',
        74,
        "/a/b: the file system is read-only",
    ),
    "quota": (
        'raise OSError(122, "Disk quota exceeded", "/a/b")',
        74,
        "the disk quota is used up: /a/b",
    ),
    "too many files": (
        'raise OSError(24, "Too many open files", "/a/b")',
        74,
        r"too many open files; raise the limit \(ulimit -n\)",
    ),
    "too large": (
        'raise OSError(27, "File too large", "/a/b")',
        74,
        r"/a/b: the file is larger than the limit \(ulimit -f\)",
    ),
    "stale": (
        'raise OSError(116, "Stale file handle", "/a/b")',
        74,
        "/a/b: the disk or the network file system failed",
    ),
    "folder": ('open("/tmp")', 74, r"/tmp: is a directory"),
    "missing": ('open("/nowhere/x")', 74, "/nowhere/x: no such file or directory"),
    "name too long": ('open("/tmp/" + "x" * 300)', 74, "file name too long"),
    "arrow": (
        'raise OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left '
        'on device")',
        *(74, "no space left on a disk|no space left on the disk of"),
    ),
    "safetensors": (
        'raise Exception("Error while serializing: I/O error: No space left on device (os error '
        '28)")',
        *(74, "no space left on a disk|no space left on the disk of"),
    ),
    "cause": (
        'try:\n    raise OSError(28, "No space left on device", "/tmp/f")\nexcept OSError as e:\n '
        '   raise RuntimeError("failed") from e',
        *(74, r"no space left on the disk of /tmp \(\d+\.\d MB free\); make room"),
    ),
    "lines": ('raise ValueError("one\\ntwo\\n\\nthree")', 70, r"ValueError: one two three"),
    "long": ('raise ValueError("x" * 5000)', 70, r"ValueError: x{400} \.\.\."),
    "empty": ("raise AssertionError", 70, r"error: probe: AssertionError; traceback"),
    "key": ('{}["a\\nb"]', 70, r"KeyError: 'a\\nb'"),
    "unprintable": ('raise ValueError("\\udcff")', 70, "ValueError"),
    "recursion": (
        "globals()['f'] = lambda: f()\nf()",
        70,
        "RecursionError: maximum recursion depth exceeded",
    ),
    "group": (
        'raise ExceptionGroup("several", [ValueError("a"), OSError("b")])',
        70,
        r"ExceptionGroup: several \(2 sub-exceptions\)",
    ),
    "json": ('import json; json.loads("{")', 70, "JSONDecodeError: Expecting property name"),
    "process": (
        'import subprocess; subprocess.run(["false"], check=True)',
        70,
        "CalledProcessError: Command",
    ),
    "secret": (
        'raise ValueError("Bearer hf_ABCDEFGHIJKLMNOPQRSTU at https://me:word@host/x")',
        70,
        r"Bearer \[secret\] at https://\[secret\]@host/x",
    ),
}
PROBE = """
import sys
from zagreus.errors import InputError, run
def main():
    exec(sys.argv[1])
run(main)
"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    path = tmp_path / "probe.py"
    path.write_text(PROBE)
    return path


def start(path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(path.parent), **variables}
    return subprocess.run(
        [sys.executable, "-P", str(path), *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("name", ENDS)
def test_one_line_and_the_traceback_in_a_file(name: str, probe: Path) -> None:
    code, status, said = ENDS[name]
    done = start(probe, code)
    assert done.returncode == status and done.stdout == ""
    assert done.stderr.count("\n") == 1 and re.search(said, done.stderr), done.stderr
    match = re.fullmatch(r"error: probe: .*; traceback: (\S+)\n", done.stderr)
    assert match, done.stderr
    whole = Path(match[1]).read_text()
    assert (
        "Traceback (most recent call last)" in whole
        and "hf_ABC" not in whole
        and "me:word" not in whole
    )
    assert stat.S_IMODE(Path(match[1]).stat().st_mode) == 0o600


def test_the_log_of_a_rule_holds_the_traceback(probe: Path, tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    with open(log, "w") as opened:
        subprocess.run(
            [sys.executable, "-P", probe, '{}["x"]'],
            stdout=opened,
            stderr=opened,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    lines = log.read_text().splitlines()
    assert (
        lines[0] == "Traceback (most recent call last):"
        and lines[-1] == f"error: probe: KeyError: 'x'; traceback: {log}"
    )


def test_bad_input_and_an_interrupt_have_no_traceback(probe: Path) -> None:
    done = start(probe, 'raise InputError("a file\\nof two lines")')
    assert (done.returncode, done.stderr) == (2, "error: a file of two lines\n")
    done = start(probe, "raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (
        130,
        "interrupted; started again, it goes on where it stopped\n",
    )
    assert start(probe, "raise SystemExit(143)").returncode == 143


WRITE = """
from zagreus.atomic import atomic_file, atomic_folder
from zagreus.manifest import write_manifest
with atomic_folder("{0}/made") as p: (p / "a").write_text("x")
with atomic_file("{0}/one") as p: p.write_text("x")
{1}
with atomic_file("{0}/two") as p: p.write_text("x")
raise {2}
"""


@pytest.mark.parametrize("end", ["KeyError", "MemoryError", "InputError('x')", "KeyboardInterrupt"])
def test_what_no_manifest_vouches_for_is_withdrawn(end: str, probe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    start(probe, WRITE.format(folder, "", end))
    assert os.listdir(folder) == []
    start(
        probe, WRITE.format(folder, f"write_manifest('{folder}/m.json', kind='k', name='n')", end)
    )
    assert sorted(os.listdir(folder)) == ["m.json", "m.run.json", "made", "one"]
    (folder / "two").write_text("of an earlier run")
    start(probe, WRITE.format(folder, "", end))
    assert (folder / "two").exists() and (folder / "one").exists(), (
        "what was there before is not removed"
    )


def test_nobody_else_may_write_to_results(probe: Path, tmp_path: Path) -> None:
    for umask, expected in ((0o000, 0o664), (0o022, 0o644), (0o077, 0o600), (0o007, 0o660)):
        code = (
            "from zagreus.atomic import atomic_file\nwith "
            f"atomic_file('{tmp_path}/f{umask}') as p: p.write_text('x')"
        )
        command = [
            "sh",
            "-c",
            f'umask {umask:03o}; exec "$0" -P "$@"',
            sys.executable,
            str(probe),
            code,
        ]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert stat.S_IMODE((tmp_path / f"f{umask}").stat().st_mode) == expected


def test_every_program_ends_in_one_place() -> None:
    programs = [
        path
        for path in [*Path("scripts").rglob("*.py"), *Path("bin").iterdir()]
        if path.name != "python"
    ]
    # It is for a Python that the library is too new for, too.
    programs.remove(Path("scripts/doctor.py"))
    without = [
        str(path)
        for path in programs
        if not re.search(r"^ *run\((main|lambda)", path.read_text(), re.MULTILINE)
    ]
    assert without == []
    assert "run(main)" in Path("zagreus/cluster/launch.py").read_text()


# --- the host ---


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of somebody else, broken or with the names of ours."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in (
        "yaml",
        "typing",
        "json",
        "argparse",
        "sitecustomize",
        "usercustomize",
        "snakemake",
        "zagreus",
    ):
        (folder / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    return folder


FOREIGN = {
    "PYTHONPATH": lambda folder: str(folder),
    "PYTHONHOME": lambda folder: "/nonexistent",
    "PYTHONSTARTUP": lambda folder: str(folder / "yaml.py"),
    "PYTHONUSERBASE": lambda folder: str(folder),
    "PYTHONPLATLIBDIR": lambda folder: "nowhere",
    "PYTHONWARNINGS": lambda folder: "error",
    "PYTHONOPTIMIZE": lambda folder: "2",
    "PYTHONINSPECT": lambda folder: "1",
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("program", ["zagreus", "pin"])
def test_programs_start_with_their_own_python(program: str, name: str, foreign: Path) -> None:
    if not Path(".tools/platform.json").exists():
        pytest.skip("`make setup` was not run here")
    environment = {**os.environ, name: FOREIGN[name](foreign)}
    if name != "PYTHONPATH":
        environment.pop("PYTHONPATH", None)
    arguments = ["--version"] if program == "zagreus" else ["/nowhere/config.yaml"]
    done = subprocess.run(
        [f"bin/{program}", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert "wrong" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    if program == "zagreus":
        assert done.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout), done.stderr
    else:  # bad input, or no image and no environment here
        assert (
            done.returncode == 2
            and done.stderr.startswith("error: ")
            and done.stderr.count("\n") == 1
        ), done.stderr


def test_a_program_is_found_by_a_link_and_by_path(tmp_path: Path) -> None:
    if not Path(".tools/platform.json").exists():
        pytest.skip("`make setup` was not run here")
    (tmp_path / "z").symlink_to(ROOT / "bin/zagreus")
    environment = {**os.environ, "PATH": f"{ROOT / 'bin'}:{os.environ['PATH']}"}
    for command in ([str(tmp_path / "z")], ["zagreus"]):
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr


def test_set_up_starts_with_its_own_python(foreign: Path) -> None:
    # Where `make dryrun` started this test, make's own variables would make the inner one speak of
    # folders.
    inherited = ("PYTHON", "MAKE", "MFLAGS")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    environment = {
        **plain,
        "PYTHONHOME": "/nonexistent",
        "PYTHONPATH": str(foreign),
        "PYTHONWARNINGS": "error",
    }
    shown = subprocess.run(
        ["make", "-n", "setup"], capture_output=True, text=True, env=environment, check=True
    ).stdout
    command = shown.strip().replace("$", "$$")
    done = subprocess.run(
        ["make", "setup", f"SETUP={command} --help"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: setup.py"), done.stderr


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write to."""
    with small_disk(tmp_path / "disk", 1) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk


def test_caches_go_elsewhere_where_the_home_folder_cannot_be_written(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for home in (read_only, Path("/nonexistent/home")):
        environment = {"HOME": str(home)}
        prepare_host(tmp_path, environment)
        assert environment["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake/cache")
        assert re.fullmatch(
            r"note: \S+/.cache cannot be written \(.*\); caches go to \S+\n",
            capsys.readouterr().err,
        )
    environment = {"HOME": str(tmp_path)}
    prepare_host(tmp_path, environment)
    assert environment == {"HOME": str(tmp_path)} and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name",
    [
        "APPTAINER_CACHEDIR",
        "APPTAINER_TMPDIR",
        "SINGULARITY_CACHEDIR",
        "SINGULARITY_TMPDIR",
        "TMPDIR",
    ],
)
def test_folders_that_cannot_be_written_are_named(
    name: str, read_only: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in (read_only, read_only / "deeper", tmp_path / "file", Path("/proc/none")):
        with pytest.raises(
            InputError,
            match=f"{name}: {folder} cannot be written .*; unset {name}, or name a folder that can",
        ):
            prepare_host(tmp_path, {"HOME": str(tmp_path), name: str(folder)})


def test_what_reaches_the_images(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    environment = {
        "HOME": str(tmp_path),
        "HUGGING_FACE_HUB_TOKEN": "hf_secretsecret\r\n",
        "HF_ENDPOINT": " https://mirror.example/ \n",
        "SSL_CERT_FILE": str(bundle),
        "REQUESTS_CA_BUNDLE": str(tmp_path),
        "CURL_CA_BUNDLE": "/nowhere/ca.pem",
        "https_proxy": "http://me:word@proxy:3128",
        "NO_PROXY": "localhost",
        "APPTAINER_BIND": "/scratch",
        "EDITOR": "vi",
    }
    into_images(environment)
    for program in ("APPTAINER", "SINGULARITY"):
        assert environment[f"{program}ENV_HF_TOKEN"] == "hf_secretsecret" == environment["HF_TOKEN"]
        assert environment[f"{program}ENV_HF_ENDPOINT"] == "https://mirror.example/"
        assert environment[f"{program}ENV_SSL_CERT_FILE"] == str(bundle)
        assert (
            environment[f"{program}ENV_https_proxy"].endswith("proxy:3128")
            and f"{program}ENV_NO_PROXY" in environment
        )
        assert f"{program}ENV_EDITOR" not in environment
    # The folder holds the file.
    assert environment["APPTAINER_BIND"] == f"/scratch,{tmp_path}:{tmp_path}:ro"
    into_images(environment)
    assert environment["APPTAINER_BIND"].count(str(tmp_path)) == 2, (
        "the jobs' own Snakemake does it again"
    )
    assert binds({"SSL_CERT_FILE": "relative.pem"}) == binds({"SSL_CERT_FILE": ""}) == []
    assert "HF_TOKEN" not in host_variables({"HOME": str(tmp_path), "HF_TOKEN": " \n"})


def test_certificates_of_other_clients_serve_the_hub_too(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        for path, variable in ((tmp_path / "ca.pem", "SSL_CERT_FILE"), (tmp_path, "SSL_CERT_DIR")):
            environment = {name: str(path)}
            use_certificates(environment)
            assert environment[variable] == str(path)
    environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "CURL_CA_BUNDLE": str(tmp_path)}
    use_certificates(environment)
    assert "SSL_CERT_DIR" not in environment


def test_a_failed_job_shows_its_line_alone(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "profiles/logger"))
    from snakemake_logger_plugin_zagreus.event_lines import EventLines

    class Record:
        jobid, rule_name, rule_msg, shellcmd, log = (
            1,
            "fetch",
            None,
            "x",
            [str(tmp_path / "fetch.log")],
        )

    line = "error: fetch: KeyError: 'x'; traceback: fetch.log"
    (tmp_path / "fetch.log").write_text(
        f"reading\nTraceback (most recent call last):\n  File x\nKeyError: 'x'\n{line}\n"
    )
    shown = [text for text, _ in EventLines()._failure(Record(), 0.0)]
    assert [text.strip() for text in shown[2:]] == [line]
    (tmp_path / "fetch.log").write_text("reading\nerror: no such file\n")
    assert [text.strip() for text, _ in EventLines()._failure(Record(), 0.0)][2:] == [
        "reading",
        "error: no such file",
    ]
