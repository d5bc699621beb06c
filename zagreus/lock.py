"""The kernel's lock on a file.

One process at a time in a folder, free again however its holder ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zagreus.errors import InputError

# What a file system answers that was mounted without locks (Lustre without `flock`, NFS without
# lockd).
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def try_lock(path: Path) -> int | None:
    """Lock a file, which is made where it is missing; return its descriptor, None where another
    process holds the lock. The lock ends with the last process that has the descriptor.

    Raises:
        InputError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, path):
        return descriptor
    os.close(descriptor)
    return None


def wait_lock(path: Path) -> int:
    """Lock a file as `try_lock` does, once every other process has let it go."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _flock(descriptor, fcntl.LOCK_EX, path)
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for as long as the context lasts."""
    descriptor = wait_lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def require_locks(folder: Path) -> None:
    """Raise `InputError` where the file system of a folder has no locks.

    For libraries that lock by themselves (the `filelock` of Axolotl and `datasets`): they would end
    in a traceback, or wait for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".lock-probe-{os.getpid()}"
    try:
        descriptor = try_lock(probe)
        if descriptor is not None:
            os.close(descriptor)
    finally:
        probe.unlink(missing_ok=True)


def _flock(descriptor: int, operation: int, path: Path) -> bool:
    """Return whether the lock was taken."""
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        if error.errno not in UNSUPPORTED:
            raise
        raise InputError(
            f"{path.parent}: its file system has no file locks ({os.strerror(error.errno or 0)}); "
            "mount it with them (Lustre: the option `flock`), or put the folder elsewhere"
        ) from None
    return True
