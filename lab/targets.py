"""Which namespace the user means: `node1`, `underlay`, a pod's name, or `namespace/pod`."""

import os
from collections.abc import Sequence

from dataplane import netns
from lab import survey, topology
from lab.errors import LabError
from lab.plan import Lab

UNDERLAY = "underlay"


def find(lab: Lab, target: str) -> str:
    """Return the name of the network namespace. Works without the API server. Raises LabError."""
    if target == UNDERLAY:
        return lab.namespace
    for node in lab.nodes:
        if target == node.name:
            return node.namespace
    return _find_pod(lab, target)


def _find_pod(lab: Lab, target: str) -> str:
    namespace, _, name = target.rpartition("/")
    sandboxes = [record for node in lab.nodes for record in survey.sandboxes(lab, node.name) if not record.released]
    matching = [record for record in sandboxes if record.name == name and namespace in {"", record.namespace}]
    if len(matching) == 1:
        return matching[0].netns
    if matching:
        raise LabError(
            f"more than one pod is named {target!r}",
            "Say which: " + " or ".join(sorted(f"{record.namespace}/{record.name}" for record in matching)),
        )
    nodes = ", ".join(node.name for node in lab.nodes)
    pods = ", ".join(sorted(record.name for record in sandboxes)) or "none"
    raise LabError(f"the lab {lab.name!r} has no node or pod {target!r}", f"Nodes: {nodes}; pods: {pods}")


def become(namespace: str, argv: Sequence[str]) -> None:
    """Replace this process by a program inside the namespace. Raises LabError when it cannot be started."""

    def execute() -> None:
        # A thread that has entered the namespace may execute: the kernel ends the other threads, and what goes on
        # as this process is the thread that called.
        os.execvp(argv[0], list(argv))  # noqa: S606 - the user's own command line

    topology.identity(namespace)
    with netns.open_netns(topology.path_of(namespace)) as target:
        try:
            netns.run_in(target.fd, execute)
        except OSError as error:
            raise LabError(f"{argv[0]}: {error.strerror}", "The programs to run are the machine's own") from error
