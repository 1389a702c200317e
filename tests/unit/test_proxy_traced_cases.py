"""The table of tests/packet_cases.py on the tracer, with the state the planner makes of it."""

from ipaddress import ip_address

import msgspec
import pytest

from proxy.here import Here
from proxy.tracing.desired import Desired, desired
from proxy.tracing.machine import Trace, trace_turns
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import Rules
from tests.packet_cases import CLIENTS, ENDPOINTS, SCENES, Row, Scene
from tests.service_node import GATEWAY, HERE, NODE
from tests.services import RULESET, World

HOST = Host(addresses=frozenset(map(ip_address, (NODE, GATEWAY))))
ORIGINS = {"pod": Origin.POD, "self": Origin.POD, "node": Origin.NODE}
NAMES = {ip_address(address).packed: name for name, address in ENDPOINTS.items()}


def wanted(scene: Scene) -> Desired:
    world = World()
    for given in scene.given:
        world.put(*given)
    here: Here = msgspec.structs.replace(HERE, **scene.here)
    return desired(world, here, RULESET, "IPv4")


def packet(row: Row) -> Packet:
    origin = ORIGINS.get(row.client, Origin.OUTSIDE)
    return Packet(
        source=ip_address(CLIENTS[row.client]),
        destination=ip_address(row.address),
        protocol=row.protocol,
        port=row.port,
        origin=origin,
        interface={Origin.POD: "podwire0", Origin.NODE: "", Origin.OUTSIDE: "uplink"}[origin],
    )


def met(trace: Trace) -> str:
    if trace.target is None:
        return trace.fate
    return f"{NAMES[trace.target.packed]} {'node' if trace.masqueraded_by else 'own'}"


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_the_tracer_sends_each_packet_where_the_table_says(scene):
    made = wanted(scene)
    rules = Rules(made.chains, made.state)
    found = {str(row): {met(trace) for trace in trace_turns(rules, HOST, packet(row))} for row in scene.rows}

    assert found == {str(row): row.expected for row in scene.rows}


def test_the_matrix_has_every_combination():
    cells = [row for scene in SCENES[:20] for row in scene.rows]

    assert len(cells) == 5 * 4 * 6 * 4
