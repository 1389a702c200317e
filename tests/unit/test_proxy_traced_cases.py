"""The table of tests/packet_cases.py on the tracer, with the state the planner makes of it."""

from ipaddress import ip_address

import msgspec
import pytest

from proxy.here import Here
from proxy.tracing.desired import Desired, desired
from proxy.tracing.machine import Trace, trace_turns
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import Rules
from tests.packet_cases import CASES, IDS, PLACES, Place, Row, Scene, matrix
from tests.services import World

ORIGINS = {"pod": Origin.POD, "self": Origin.POD, "node": Origin.NODE, "localhost": Origin.NODE}
INTERFACES = {Origin.POD: "podwire0", Origin.NODE: "", Origin.OUTSIDE: "uplink"}


def wanted(at: Place, scene: Scene) -> Desired:
    world = World()
    for given in scene.given:
        world.put(*given)
    here: Here = msgspec.structs.replace(at.plan.here, **scene.here)
    return desired(world, here, at.plan.ruleset, at.plan.family)


def packet(at: Place, row: Row) -> Packet:
    origin = ORIGINS.get(row.client, Origin.OUTSIDE)
    return Packet(
        source=ip_address(at.clients[row.client]),
        destination=ip_address(row.address),
        protocol=row.protocol,
        port=row.port,
        origin=origin,
        interface=INTERFACES[origin],
    )


def met(at: Place, trace: Trace) -> str:
    if trace.target is None:
        return trace.fate
    names = {ip_address(address).packed: name for name, address in at.endpoints.items()}
    return f"{names[trace.target.packed]} {'node' if trace.masqueraded_by else 'own'}"


@pytest.mark.parametrize(("family", "scene"), CASES, ids=IDS)
def test_the_tracer_sends_each_packet_where_the_table_says(family, scene):
    at = PLACES[family]
    made = wanted(at, scene)
    rules = Rules(made.chains, made.state)
    host = Host(addresses=frozenset(map(ip_address, (at.plan.node, at.plan.gateway))))
    found = {str(row): {met(at, trace) for trace in trace_turns(rules, host, packet(at, row))} for row in scene.rows}

    assert found == {str(row): row.expected for row in scene.rows}


@pytest.mark.parametrize("family", PLACES)
def test_the_matrix_has_every_combination(family):
    """Of set-ups, policies, clients and frontends."""
    cells = [row for scene in matrix(PLACES[family]) for row in scene.rows]

    assert len(cells) == 5 * 4 * 6 * 4
