"""The executable a runtime starts, where cni/shim.c cannot be compiled: the same in a few milliseconds of Python.

cni.install writes this file's text as the plugin, behind a #! line with -IS (no site, no environment, no path), so it
imports only what is built into the interpreter. It forwards CNI_* and stdin over the agent's socket and prints the
answer. Without an agent, or when one dies in the middle, it becomes the stand-alone plugin, with the same stdin and
the same request name, by which the plugin knows what the agent had begun for this very call.
"""

import _socket
import posix
import sys

MAGIC = b"podwire-cni\x00\x02"  # cni.wire describes the protocol
RUN_ALONE = 255
VERSION_MILLISECONDS = 500
CHUNK = 1 << 16
BUSY = b'{"cniVersion": "1.0.0", "code": 11, "msg": "the node agent has too many calls waiting; try again"}\n'
LOST = b'{"cniVersion": "1.0.0", "code": 5, "msg": "podwire cannot be started: install the plugin again"}\n'


def main(python: str, socket: str, plugin: bytes, versions: bytes, about: bytes, patience: int) -> int:
    command = posix.environ.get(b"CNI_COMMAND")
    if not command:
        posix.write(2, about)
        return 0
    if command == b"VERSION":
        return show(echoing(versions, read_soon(0)), 0)
    stdin = read_all(0)
    own = {b"PODWIRE_REQUEST": posix.urandom(16).hex().encode(), b"PODWIRE_PLUGIN": plugin}
    try:
        answer = ask(connect(socket, patience), stdin, own)
    except BlockingIOError:
        return show(BUSY, 1)
    except OSError:
        answer = b""
    if len(answer) >= 5 and answer[0] != RUN_ALONE and len(answer) == 5 + int.from_bytes(answer[1:5], "big"):
        return show(answer[5:], answer[0])
    return become_plugin(python, stdin, own)


def echoing(versions: bytes, stdin: bytes) -> bytes:
    """The report with the cniVersion of the caller's object, if it is one of the supported (spec §2 VERSION)."""
    before_value, quote, rest = stdin.partition(b'"cniVersion"')[2].partition(b'"')
    stated = quote + rest.partition(b'"')[0] + quote
    if before_value.strip() != b":" or stated not in versions[versions.index(b"[") :]:
        return versions
    # The first comma is the one behind the report's own cniVersion.
    return b'{"cniVersion":' + stated + versions[versions.index(b",") :]


def read_soon(fd: int) -> bytes:
    """What is written to stdin, without waiting for a writer that never writes or never closes."""
    import select  # in some builds a file of its own to load; only VERSION needs it

    reader, parts = select.poll(), []
    reader.register(fd, select.POLLIN)
    try:
        while reader.poll(VERSION_MILLISECONDS) and (part := posix.read(fd, CHUNK)):
            parts.append(part)
    except OSError:
        pass  # no stdin at all
    return b"".join(parts)


def connect(path: str, seconds: int) -> _socket.socket:
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    patience = seconds.to_bytes(8, sys.byteorder) + bytes(8)  # struct timeval
    agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, patience)
    agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, patience)
    agent.connect(path)  # waits while the agent's backlog is full, then EAGAIN
    return agent


def ask(agent: _socket.socket, stdin: bytes, own: dict[bytes, bytes]) -> bytes:
    netns = posix.stat("/proc/self/ns/net")
    pairs = [name + b"=" + value for name, value in posix.environ.items() if name.startswith(b"CNI_")]
    pairs += [name + b"=" + value for name, value in own.items()]
    pairs += [b"PODWIRE_CALLER_NETNS=%d:%d" % (netns.st_dev, netns.st_ino)]
    environ = b"\0".join(pairs)
    header = MAGIC + len(environ).to_bytes(4, "big") + len(stdin).to_bytes(4, "big")
    try:
        agent.sendmsg([header], pod_descriptor())
        write_all(agent.fileno(), environ + stdin)
        return read_all(agent.fileno())
    except BlockingIOError:
        return b""  # connected, but the agent stands still


def pod_descriptor() -> list[tuple[int, int, bytes]]:
    path = posix.environ.get(b"CNI_NETNS", b"")
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return []  # gone, as it may be for a DEL; an ADD is told so by the plugin
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]


def become_plugin(python: str, stdin: bytes, own: dict[bytes, bytes]) -> int:
    fd = posix.memfd_create("stdin", 0)
    write_all(fd, stdin)
    posix.lseek(fd, 0, 0)
    posix.dup2(fd, 0)
    try:
        posix.execve(python, (python, "-I", "-m", "cni"), {**posix.environ, **own})
    except OSError:
        return show(LOST, 1)


def show(answer: bytes, code: int) -> int:
    write_all(1, answer)
    return code


def read_all(fd: int) -> bytes:
    parts = []
    while part := posix.read(fd, CHUNK):
        parts.append(part)
    return b"".join(parts)


def write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[posix.write(fd, content) :]
