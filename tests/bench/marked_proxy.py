"""podwire-proxy with a stopwatch: `python -m tests.bench.marked_proxy MARKS FLAGS…` appends to MARKS when what ended.

A line is the moment on the monotonic clock, in nanoseconds, which all processes share, what happened and to which family:
`event` (a line of a watch was read), `commit` (the kernel has acknowledged a transaction), `load` (the same for text),
`begin` and `round` (a round of the syncer began, and is over).
"""

import functools
import os
import sys
import time
from typing import Any

from dataplane.nft.linux import LinuxNft
from kube.reflector import Reflector
from proxy import __main__ as program
from proxy.sync import Syncer

_marks = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def mark(what: str) -> None:
    os.write(_marks, f"{time.monotonic_ns()} {what}\n".encode())


def family(part: Any) -> str:
    """Which table's part this is: ip, ip6, or none."""
    table = getattr(part, "table", None) or getattr(getattr(part, "_ruleset", None), "table", None)
    return str(table).partition(" ")[0] if table else "any"


def after(what: str, owner: type, name: str) -> None:
    """From now on, this method tells when it has succeeded."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def marked(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        mark(f"{what} {family(self)}")
        return result

    setattr(owner, name, marked)


def before(what: str, owner: type, name: str) -> None:
    """From now on, this method tells when it is called."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def marked(self: Any, *arguments: Any, **options: Any) -> Any:
        mark(f"{what} {family(self)}")
        return original(self, *arguments, **options)

    setattr(owner, name, marked)


before("event", Reflector, "on_line")
before("begin", Syncer, "sync")
after("round", Syncer, "sync")
after("commit", LinuxNft, "commit")
after("load", LinuxNft, "load")
program.main()
