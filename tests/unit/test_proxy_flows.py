"""Which UDP flows are stale, and what is done about them. Frontend: 10.96.0.53 port 53."""

from ipaddress import ip_address

import pytest

from dataplane import conntrack
from dataplane.conntrack import Flow
from dataplane.errors import DataplaneError
from proxy.flows import StaleFlows, is_stale
from proxy.model import Target
from proxy.planning import Frontend

DNS = Frontend(ip_address("10.96.0.53"), 53)
A, B = (Target(ip_address(f"10.244.0.{last}").packed, 5353) for last in (2, 3))


def flow(
    destination: str = "10.96.0.53", port: int = 53, replier: str = "10.244.0.2", replier_port: int = 5353
) -> Flow:
    name = f"{destination}:{port} {replier}".encode()
    return Flow(ip_address(destination), port, ip_address(replier), replier_port, name)


class Connections:
    """UDP flows in memory."""

    def __init__(self, *flows: Flow) -> None:
        self.flows = set(flows)
        self.dumps: list = []
        self.broken = False
        self.on_dump = lambda: None

    def udp_flows(self, version, *, destination=None):
        if self.broken:
            raise DataplaneError("list UDP flows", 105)
        self.dumps.append(destination)
        self.on_dump()
        return [one for one in self.flows if destination in {None, one.destination}]

    def delete(self, one: Flow) -> bool:
        self.flows.discard(one)
        return True


@pytest.mark.parametrize(
    ("given", "stale"),
    [
        (flow(), False),
        (flow(replier="10.244.0.9"), True),
        (flow(replier_port=53), True),
        (flow(replier="10.96.0.53", replier_port=53), True),
        (flow(destination="10.96.0.54", replier="10.244.0.9"), False),
        (flow(port=54, replier="10.244.0.9"), False),
    ],
    ids=["answered", "gone endpoint", "gone port", "never translated", "another Service", "another port"],
)
def test_a_flow_is_stale_when_nobody_answers_it(given, stale):
    assert is_stale(given, {DNS: frozenset({A, B})}) is stale


def test_without_endpoints_every_flow_is_stale():
    assert is_stale(flow(), {DNS: frozenset()})


def test_the_stale_ones_and_no_others_are_deleted():
    answered, gone, other = flow(), flow(replier="10.244.0.9"), flow(destination="10.96.0.99", replier="10.244.0.9")
    connections = Connections(answered, gone, other)
    flows = StaleFlows(connections)
    flows.expect(DNS, frozenset({A}))
    flows.run_due()

    assert connections.flows == {answered, other}


def test_one_address_is_looked_for_in_the_kernel():
    connections = Connections()
    flows = StaleFlows(connections)
    flows.expect(DNS, frozenset({A}))
    flows.run_due()

    assert connections.dumps == [DNS.address]


def test_many_addresses_cost_one_dump():
    connections = Connections(flow(destination="10.96.1.7", replier="10.244.0.9"), flow())
    flows = StaleFlows(connections)
    for last in range(200):
        flows.expect(Frontend(ip_address(f"10.96.1.{last}"), 53), frozenset({A}))
    flows.run_due()

    assert connections.dumps == [None]
    assert connections.flows == {flow()}


def test_a_packet_that_was_under_way_is_found_by_a_second_look():
    connections = Connections()
    flows = StaleFlows(connections)
    flows.expect(DNS, frozenset({A}))
    flows.run_due()
    connections.flows.add(flow(replier="10.244.0.9"))
    flows.sweep(frozenset({DNS}))

    assert connections.flows == set()


def test_after_the_second_look_nothing_is_remembered():
    flows = StaleFlows(Connections())
    flows.expect(DNS, frozenset({A}))
    flows.run_due()
    flows.sweep(frozenset({DNS}))

    assert (flows._answering, flows._seen_once) == ({}, set())


def test_who_answers_since_a_sweep_began_gets_two_looks_of_its_own():
    connections = Connections(flow(replier="10.244.0.9"))
    flows = StaleFlows(connections)
    flows.expect(DNS, frozenset({A}))
    connections.on_dump = lambda: flows.expect(DNS, frozenset({B}))
    flows.run_due()
    connections.on_dump = lambda: None
    for _ in range(2):
        connections.flows = {flow(replier="10.244.0.9")}
        flows.sweep(frozenset({DNS}))

        assert connections.flows == set()


def test_what_could_not_be_read_is_read_again():
    connections = Connections(flow(replier="10.244.0.9"))
    connections.broken = True
    flows = StaleFlows(connections)
    flows.expect(DNS, frozenset({A}))
    flows.run_due()
    connections.broken = False
    flows.sweep(frozenset({DNS}))

    assert connections.flows == set()


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\xff" * 40, b"\x08\x00\x01\x00abcd"])
def test_what_is_no_flow_is_read_as_none(garbage):
    assert conntrack.read_flow(garbage) is None
