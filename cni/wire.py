"""What the shim and the agent say to each other over the unix socket: one request, one reply, then the end.

    request  magic, version | length of the environment | length of stdin | environment K=V NUL K=V … | stdin
    reply    exit code (1 byte) | length of stdout | stdout

Lengths are 4 bytes, big-endian. The pod's namespace travels with the request as an open descriptor (SCM_RIGHTS): the
shim's runtime may live in a mount or pid namespace where the path means something else than it does to the agent.
"""

import array
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from dataplane.netns import Identity

MAGIC = b"podwire-cni\x00\x02"
LENGTH = 4
HEADER = len(MAGIC) + 2 * LENGTH
MAX_BYTES = 16 << 20
RUN_ALONE = 255
"""The exit code of a reply that says: this agent serves another network namespace, do it yourself."""

CALLER_VARIABLE = "PODWIRE_CALLER_NETNS"
"""device:inode of the shim's own network namespace."""


class WireError(Exception):
    """The peer does not speak this protocol, or stopped in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    environ: Mapping[str, str]
    stdin: bytes
    caller: Identity
    netns_fd: int | None  # the receiver closes it

    def close(self) -> None:
        if self.netns_fd is not None:
            os.close(self.netns_fd)


def receive(connection: socket.socket) -> Request:
    """Read one request. Raises WireError for what is not one; OSError, also when the connection's timeout is over."""
    first, fds = _receive_first(connection)
    try:
        header = first + _exactly(connection, HEADER - len(first))
        environment_length, stdin_length = _lengths(header)
        environ = _environ(_exactly(connection, environment_length))
        return Request(
            environ=environ,
            stdin=_exactly(connection, stdin_length),
            caller=_identity(environ.get(CALLER_VARIABLE, "")),
            netns_fd=fds[0] if fds else None,
        )
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def send(connection: socket.socket, *, exit_code: int, stdout: bytes) -> None:
    connection.sendall(bytes([exit_code]) + len(stdout).to_bytes(LENGTH, "big") + stdout)


def _receive_first(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The bytes the descriptor came with. The kernel drops surplus descriptors: LEN leaves room for one, SPACE for two."""
    room = socket.CMSG_LEN(array.array("i").itemsize)
    read, ancillary, _, _ = connection.recvmsg(HEADER, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return read, list(fds)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 16))
        if not part:
            raise WireError(f"the shim stopped after {len(parts)} of {count} bytes")
        parts += part
    return bytes(parts)


def _lengths(header: bytes) -> tuple[int, int]:
    if not header.startswith(MAGIC):
        raise WireError(f"not a podwire shim of this version: it begins with {header[: len(MAGIC)]!r}")
    environment_length = int.from_bytes(header[len(MAGIC) : len(MAGIC) + LENGTH], "big")
    stdin_length = int.from_bytes(header[len(MAGIC) + LENGTH :], "big")
    if environment_length + stdin_length > MAX_BYTES:
        raise WireError(f"{environment_length + stdin_length} bytes announced, at most {MAX_BYTES} are read")
    return environment_length, stdin_length


def _environ(block: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in os.fsdecode(block).split("\0") if entry)
    return {name: value for name, _, value in pairs}


def _identity(text: str) -> Identity:
    device, _, inode = text.partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        raise WireError(f"{CALLER_VARIABLE}={text!r} is not device:inode")
    return Identity(device=int(device), inode=int(inode))
