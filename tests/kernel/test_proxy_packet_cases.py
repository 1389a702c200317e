"""The table of tests/packet_cases.py with real packets: what the tracer says is what the kernel does.

One topology a family for all scenes; each changes what the API says and what the node is, without restarting anything.
"""

import concurrent.futures
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests import service_node
from tests.namespaces import connect, namespace
from tests.packet_cases import CASES, IDS, PLACES, Place, Row, Scene
from tests.service_node import PATIENT, UPLINK, ServiceNode

INSIDE = {
    "pod": "client",
    "self": "a",
    "node": "node",
    "localhost": "node",
    "far-pod": "far-pod",
    "node2": "outside",
    "outside": "outside",
}
OF_THE_NODE = ("node", "localhost")
SILENCE = 0.25  # what is answered at all is answered within a millisecond or, on a busy machine, some


@contextlib.contextmanager
def prepared(at: Place) -> Iterator[ServiceNode]:
    with service_node.service_node(at.plan) as made, namespace("far-pod") as far:
        plan = at.plan
        connect(made.node, plan.cidr(at.far_gateway), far, plan.cidr(at.far_pod), device="far")
        far.run("ip", "route", "add", "default", "via", at.far_gateway)
        made.pods["far-pod"] = far
        made.pods["outside"].run("ip", "address", "add", plan.cidr(at.node2), "dev", UPLINK)
        # So many packets are refused here that the kernel would answer only some of them.
        made.node.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        yield made


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, ServiceNode]]:
    with contextlib.ExitStack() as stack:
        yield {family: stack.enter_context(prepared(place)) for family, place in PLACES.items()}


def stage(node: ServiceNode, scene: Scene) -> None:
    """Make the API say what the scene says, in one round for everything."""
    node.look(**scene.here)
    node.sync(*[node.world.put(*given) for given in scene.given])


def ask(at: Place, row: Row) -> str:
    """Who answers and which source it sees; refused, or dropped."""
    kind = socket.SOCK_DGRAM if row.protocol == "UDP" else socket.SOCK_STREAM
    source = at.clients[row.client]
    with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind) as opened:
        # The node chooses the source of its own packets as programs on it do: by the route.
        if row.client != "node":
            opened.bind((source, 0))
        opened.settimeout(SILENCE if row.is_silent else PATIENT)
        try:
            opened.connect((row.address, row.port))
            if row.protocol == "UDP":
                # EPERM is how the kernel tells a sender that its own output was refused or dropped; the answer tells which.
                with contextlib.suppress(PermissionError):
                    opened.send(b"?")
            name, seen = opened.recv(100).decode().split()
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "dropped"
    # The node's own address is never told from what masquerading makes of it.
    return f"{name} {'own' if seen == source and row.client not in OF_THE_NODE else 'node'}"


def meets(node: ServiceNode, at: Place, row: Row) -> frozenset[str]:
    return node.inside(INSIDE[row.client], lambda: _turns(at, row))


def _turns(at: Place, row: Row) -> frozenset[str]:
    """What as many connections meet as there are answers. A few more, if need be: a packet left over from an earlier
    scene takes a turn too; that turns are strict is not shown here."""
    found = {ask(at, row) for _ in row.expected}
    for _ in range(6):
        if found < row.expected:
            found.add(ask(at, row))
    return frozenset(found)


def agrees(at: Place, row: Row, found: frozenset[str]) -> bool:
    if row.expected == {"passed"}:
        # The node or the network refuses it or not; in any case nobody answers for a Service.
        return not any(answer.split()[0] in at.endpoints for answer in found)
    return found == row.expected


@pytest.mark.parametrize(("family", "scene"), CASES, ids=IDS)
def test_the_kernel_sends_each_packet_where_the_table_says(nodes, family, scene):
    node, at = nodes[family], PLACES[family]
    with contextlib.ExitStack() as stack:
        stack.callback(node.clear)
        stage(node, scene)
        answered = {row: meets(node, at, row) for row in scene.rows if not row.is_silent}
        silent = [row for row in scene.rows if row.is_silent]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answered |= dict(zip(silent, pool.map(lambda row: meets(node, at, row), silent), strict=True))

    wrong = {str(row): (set(found), set(row.expected)) for row, found in answered.items() if not agrees(at, row, found)}
    assert wrong == {}
