"""The table of tests/packet_cases.py with real packets: what the tracer says is what the kernel does.

One topology for all scenes; each changes what the API says and what the node is, without restarting anything.
"""

import concurrent.futures
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests import service_node
from tests.namespaces import connect, namespace
from tests.packet_cases import CLIENTS, ENDPOINTS, FAR_POD, NODE2, SCENES, Row, Scene
from tests.service_node import ServiceNode

PLACES = {"pod": "client", "self": "a", "node": "node", "far-pod": "far-pod", "node2": "outside", "outside": "outside"}
SILENCE = 0.25  # what is answered at all is answered within a millisecond or, on a busy machine, some
NAMES = frozenset(ENDPOINTS)


@pytest.fixture(scope="module")
def node() -> Iterator[ServiceNode]:
    with service_node.service_node() as made, namespace("far-pod") as far:
        connect(made.node, "10.244.3.1/24", far, f"{FAR_POD}/24", device="far")
        far.run("ip", "route", "add", "default", "via", "10.244.3.1")
        made.pods["far-pod"] = far
        made.pods["outside"].run("ip", "address", "add", f"{NODE2}/24", "dev", "uplink")
        yield made


def stage(node: ServiceNode, scene: Scene) -> None:
    """Make the API say what the scene says, in one round for everything."""
    before = [node.world.remove(name) for name in node.world.names()]
    node.sync(*before)
    node.look(**scene.here)
    node.sync(*[node.world.put(*given) for given in scene.given])


def ask(row: Row) -> str:
    """Who answers and which source it sees; refused, or dropped."""
    kind = socket.SOCK_DGRAM if row.protocol == "UDP" else socket.SOCK_STREAM
    source = CLIENTS[row.client]
    with socket.socket(socket.AF_INET, kind) as opened:
        # The node chooses the source of its own packets as programs on it do: by the route.
        if row.client != "node":
            opened.bind((source, 0))
        opened.settimeout(SILENCE if row.timeouts else 5)
        try:
            opened.connect((row.address, row.port))
            if row.protocol == "UDP":
                # EPERM is how the kernel tells a sender that its own output was refused or dropped; the answer tells which.
                with contextlib.suppress(PermissionError):
                    opened.send(b"?")
            name, seen = opened.recv(100).decode().split()
        except ConnectionRefusedError:
            return "refused"
        except (TimeoutError, OSError):
            return "dropped"
    # The node's own address is never told from what masquerading makes of it.
    return f"{name} {'own' if seen == source and row.client != 'node' else 'node'}"


def meets(node: ServiceNode, row: Row) -> frozenset[str]:
    return node.inside(PLACES[row.client], lambda: _turns(row))


def _turns(row: Row) -> frozenset[str]:
    answers = [ask(row) for _ in range(max(1, len(row.expected)))]
    return frozenset(answers)


def agrees(row: Row, found: frozenset[str]) -> bool:
    if row.expected == {"passed"}:
        # The node or the network refuses it or not; in any case nobody answers for a Service.
        return not any(answer.split()[0] in NAMES for answer in found)
    return found == row.expected


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_the_kernel_sends_each_packet_where_the_table_says(node, scene):
    stage(node, scene)
    with contextlib.ExitStack() as stack:
        stack.callback(node.clear)
        answered = {row: meets(node, row) for row in scene.rows if not row.timeouts}
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            silent = [row for row in scene.rows if row.timeouts]
            answered |= dict(zip(silent, pool.map(lambda row: meets(node, row), silent), strict=True))

    wrong = {str(row): (set(found), set(row.expected)) for row, found in answered.items() if not agrees(row, found)}
    assert wrong == {}
