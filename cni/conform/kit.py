"""The whole kit: every check on one plugin, one after the other, each in a world of its own."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cni.conform import confs, judge, leftovers
from cni.conform.check import Check, carry_out
from cni.conform.checks import addition, collection, configuration, crowds, environment, removal, verification
from cni.conform.interruption import Interruption
from cni.conform.verdict import Finding, Scorecard
from cni.conform.world import PATIENCE, Subject, World

CHECKS: tuple[Check, ...] = (
    *environment.checks(),
    *configuration.checks(),
    *addition.checks(),
    *removal.checks(),
    *verification.checks(),
    *collection.checks(),
    *crowds.checks(),
)


class NotExecutable(Exception):
    """There is no program to examine."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"plugin {self.path}: not an executable file"


def selected(prefixes: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks whose id begins with one of these; without any, all."""
    return tuple(check for check in CHECKS if not prefixes or check.id.startswith(tuple(prefixes)))


def subject(
    executable: Path,
    *,
    conf: Mapping[str, Any] | None = None,
    cni_path: str = "",
    interruption: Interruption | None = None,
    patience: float = PATIENCE,
) -> Subject:
    """What is to be examined, after asking it for its versions. What a killed examination left goes first."""
    path = executable.absolute()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise NotExecutable(executable)
    leftovers.sweep()
    unasked = Subject(
        executable=path,
        cni_path=cni_path or str(path.parent),
        template=conf or confs.default(path.name),
        interruption=interruption or Interruption(),
        patience=patience,
    )
    with World(unasked) as world:
        try:
            report = world.call("VERSION", stdin=b'{"cniVersion": "1.0.0"}')
        except OSError as error:
            raise NotExecutable(executable) from error
    return dataclasses.replace(unasked, versions=_up_to(unasked.template.get("cniVersion"), judge.advertised(report)))


def _up_to(newest: str | None, versions: tuple[str, ...]) -> tuple[str, ...]:
    """A configuration that names its version may depend on plugins that know no newer one."""
    return versions[: versions.index(newest) + 1] if newest in versions else versions


def examine(
    examined: Subject, checks: Sequence[Check] = CHECKS, *, on_finding: Callable[[Finding], None] = lambda _: None
) -> Scorecard:
    """Carry the checks out. A check that fails does not stop the others. Raises Interrupted when it is to end."""
    findings = []
    for check in checks:
        examined.interruption.heed()
        findings.append(carry_out(check, examined))
        on_finding(findings[-1])
    return Scorecard(
        plugin=str(examined.executable),
        versions=examined.versions,
        conf=examined.template,
        findings=tuple(findings),
    )
