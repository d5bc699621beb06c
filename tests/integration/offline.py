"""Run a command where there is no network.

A network namespace whose only interface is the loopback one.

    python tests/integration/offline.py COMMAND...
    python tests/integration/offline.py --possible

With `--possible` it only tells whether this machine allows it: exit status 0, or 1 with a reason

As root, or where users may make namespaces. Processes that train together meet on the loopback
interface, so that one is brought up.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # sockios.h, if.h


def leave_the_network() -> None:
    """Put this process into a network namespace of its own.

    Raise `OSError` where the machine does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            raise OSError(
                ctypes.get_errno(), f"no network namespace: {os.strerror(ctypes.get_errno())}"
            )
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket() as opened:
        fcntl.ioctl(opened, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    interfaces = [name for _, name in socket.if_nameindex()]
    assert interfaces == ["lo"], interfaces


if __name__ == "__main__":
    try:
        leave_the_network()
    except OSError as error:
        sys.exit(str(error))
    if sys.argv[1:] != ["--possible"]:
        os.execvp(sys.argv[1], sys.argv[1:])
