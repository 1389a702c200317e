"""What must hold when a node restarts or loses its power: what it had comes back, and nothing is left over."""

import contextlib
import time

from scenario import checks, cluster, machines
from scenario.cluster import PODS_PER_NODE, Stage
from scenario.machines import PATIENCE, Failed, Machine, eventually

_BOOT_SECONDS = 120
_GRACE = 40.0  # seconds of silence after which podwire-api takes a node for lost
_SLACK = 10.0 * PATIENCE  # for the proxies
# Leases, host ends of veths and namespaces on a node; in a lab each pod has one of each.
_COUNTS = """
podwire ipam ls | grep -c eth0
ip -o link | grep -c ': pw'
ls /run/netns | wc -l
"""


def a_node_restarts(stage: Stage) -> str:
    node = stage.nodes[max(stage.nodes)]
    began, before = time.monotonic(), node.boot_id()
    with contextlib.suppress(Failed):  # the connection may end before the answer
        node.run("systemctl reboot", connections=1)
    machines.forget(node)
    eventually(lambda: node.boot_id() != before, f"{node.name} has restarted", within=_BOOT_SECONDS)
    booted = time.monotonic() - began
    return f"{_require_return(stage, node)}; up after {booted:.0f} s, all pods after {time.monotonic() - began:.0f} s"


def a_node_loses_its_power(stage: Stage) -> str:
    node = stage.nodes[max(stage.nodes)]
    others = {name for name, pod in stage.await_pods().items() if pod.node != node.name}
    began = time.monotonic()
    machines.vagrant("halt", "--force", node.name)
    machines.forget(node)
    eventually(
        lambda: stage.endpoints() == others, f"endpoints on {node.name} have left", within=(_GRACE + _SLACK) / PATIENCE
    )
    left = time.monotonic() - began
    alive = [machine for machine in stage.machines.values() if machine.name != node.name]
    checks.only_these_answer(stage, alive, others)
    return f"its endpoints left after {left:.0f} s"


def a_node_gets_power_again(stage: Stage) -> str:
    node = stage.nodes[max(stage.nodes)]
    began = time.monotonic()
    machines.vagrant("up", "--no-provision", node.name)
    eventually(node.is_up, f"{node.name} has started", within=_BOOT_SECONDS)
    return f"{_require_return(stage, node)}; all pods after {time.monotonic() - began:.0f} s"


def _require_return(stage: Stage, node: Machine) -> str:
    """The node is Ready, all pods answer everywhere, and there is one lease, veth and namespace for each of its pods."""
    eventually(lambda: cluster.is_ready(stage, node.name), f"{node.name} is Ready", within=60)
    pods = stage.await_pods(120)
    checks.everything_answers(stage, pods)
    counts = eventually(
        lambda: _settled(node), f"{node.name} has one lease, veth and namespace for each pod", within=30
    )
    return f"{counts[0]} leases, {counts[1]} veths, {counts[2]} namespaces for {PODS_PER_NODE} pods"


def _settled(node: Machine) -> list[int] | None:
    counts = [int(line) for line in node.run(_COUNTS).split()]
    return counts if counts == [PODS_PER_NODE] * 3 else None
