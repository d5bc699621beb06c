"""Run a command as on a machine that lets nobody make namespaces or mount, as in many an
unprivileged Docker container.

    python tests/unit/host/without_namespaces.py COMMAND...

A seccomp filter answers "operation not permitted" to unshare(2), setns(2), mount(2), fsopen(2),
pivot_root(2) and clone(2) with CLONE_NEWUSER, and "not implemented" to clone3(2), whose flags a
filter cannot see. It cannot be taken off again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

SCMP_ACT_ALLOW = 0x7FFF0000  # seccomp.h
SCMP_ACT_ERRNO = 0x00050000
SCMP_CMP_MASKED_EQ = 7
CLONE_NEWUSER = 0x10000000  # sched.h


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def main() -> None:
    """Load the filter and become the command."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(SCMP_ACT_ALLOW))

    def deny(name: str, error: int, *comparisons: Comparison) -> None:
        call = library.seccomp_syscall_resolve_name(name.encode())
        status = library.seccomp_rule_add(
            context, SCMP_ACT_ERRNO | error, call, len(comparisons), *comparisons
        )
        assert status == 0, f"seccomp_rule_add({name}): {os.strerror(-status)}"

    for name in ("unshare", "setns", "mount", "fsopen", "pivot_root"):
        deny(name, errno.EPERM)
    deny("clone", errno.EPERM, Comparison(0, SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER))
    deny("clone3", errno.ENOSYS)
    status = library.seccomp_load(context)
    assert status == 0, f"seccomp_load: {os.strerror(-status)}"
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
