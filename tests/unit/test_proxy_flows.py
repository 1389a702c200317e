"""Which connections are dealt with, and how. Frontends: UDP 10.96.0.53 port 53, TCP 10.96.0.10 port 80."""

from ipaddress import ip_address

import pytest

from dataplane import conntrack
from dataplane.conntrack import ANYWHERE, TCP_CONNTRACK_SYN_SENT, TCP_CONNTRACK_TIME_WAIT, Flow, Sent
from dataplane.errors import DataplaneError
from dataplane.tcp_probe import PROBE, End
from proxy import flow_marks
from proxy.answering import TCP, UDP
from proxy.flows import Flows, Look
from proxy.resets import Resets
from tests.services import FakeTable, World, endpoint, endpoint_slice, named, service

DNS, WEB = "10.96.0.53", "10.96.0.10"
NODE = "192.0.2.1"
A, B, GONE = "10.244.0.2", "10.244.0.3", "10.244.0.9"
OURS = flow_marks.OURS.value + 7
ESTABLISHED = 3
REMOVAL = "delete table ip podwire-proxy-resets"


def udp(destination: str = DNS, port: int = 53, to: str = A, to_port: int = 5353, mark: int = OURS) -> Flow:
    name = f"udp {destination}:{port} {to}:{to_port} {mark}".encode()
    return Flow(ip_address(destination), port, ip_address(to), to_port, name, UDP, mark=mark)


def tcp(to: str = GONE, *, destination: str = WEB, port: int = 80, mark: int = OURS, state: int = ESTABLISHED) -> Flow:
    client = ip_address("10.244.0.1")
    return Flow(
        ip_address(destination),
        port,
        ip_address(to),
        8080 if to != destination else port,
        f"tcp {destination}:{port} {to} {mark} {state}".encode(),
        TCP,
        client,
        40000,
        client,
        40000,
        mark,
        state,
    )


class Connections:
    """Flows in memory, and who was probed."""

    def __init__(self) -> None:
        self.flows_held: list[Flow] = []
        self.dumps: list = []
        self.probed: list[tuple[End, End]] = []
        self.broken = self.unprobed = False

    def flows(self, version, protocol, *, sent=ANYWHERE, marks=None):
        if self.broken:
            raise DataplaneError("list connections", 105)
        self.dumps.append(sent if marks is None else marks)
        return [
            flow
            for flow in self.flows_held
            if flow.protocol == protocol
            and flow.destination.version == version
            and sent.address in {None, flow.destination}
            and sent.port in {None, flow.destination_port}
            and (marks is None or flow.mark & marks.mask == marks.value)
        ]

    def delete(self, flow: Flow) -> bool:
        self.flows_held.remove(flow)
        return True

    def set_mark(self, flow: Flow, mark: int) -> bool:
        self.flows_held[self.flows_held.index(flow)] = flow._replace(mark=mark)
        return True

    def send(self, sender: End, receiver: End) -> None:
        if self.unprobed:
            raise DataplaneError("probe", 1)
        self.probed.append((sender, receiver))

    @property
    def marks(self) -> list[int]:
        return [flow.mark for flow in self.flows_held]


class Rig:
    def __init__(self, *flows: Flow) -> None:
        self.world = World()
        self.connections = Connections()
        self.connections.flows_held = list(flows)
        self.nft = FakeTable()
        self.now = 1_000_000.0
        self.restart()

    def restart(self) -> None:
        self.flows = Flows(
            self.world,
            self.connections,
            Resets(self.connections, self.connections, self.nft),
            family="IPv4",
            addresses=lambda: (ip_address(NODE),),
            clock=lambda: self.now,
        )

    def put(self, *given) -> None:
        self.flows.changed([self.world.put(*given)])
        self.flows.run_due()

    def dns(self, *addresses, **spec) -> None:
        ports = [(53, "dns", "UDP", 30053)]
        self.put(
            service("dns", DNS, ports=ports, **spec), endpoint_slice("dns", addresses, ports=[(5353, "dns", "UDP")])
        )

    def web(self, *addresses, on_removal: str = "") -> None:
        self.put(service("web", WEB, on_removal=on_removal), endpoint_slice("web", addresses))

    def look(self, *keys) -> None:
        self.flows.sweep(frozenset(keys))

    @property
    def held(self) -> list[Flow]:
        return self.connections.flows_held


# --- UDP


@pytest.mark.parametrize(
    ("flow", "stays"),
    [
        (udp(), True),
        (udp(to=GONE), False),
        (udp(to_port=53), False),
        (udp(to=DNS, to_port=53, mark=0), False),
        (udp(to=GONE, mark=0), False),
        (udp("10.96.0.54", to=GONE, mark=0), True),
        (udp(port=54, to=GONE, mark=0), True),
        (udp(NODE, 30053, to=GONE), False),
        (udp("192.0.2.77", 30053, to=GONE), False),
        (udp("192.0.2.77", 30053), True),
        (udp(NODE, 30053, to=NODE, to_port=30053, mark=0), False),
        (udp("198.51.100.1", 30053, to="198.51.100.1", to_port=30053, mark=0), True),
    ],
    ids=[
        "answered",
        "gone endpoint",
        "gone port",
        "never translated",
        "translated by another proxy",
        "another Service",
        "another port",
        "node port",
        "node port at an address not known",
        "answered node port",
        "node port, never translated",
        "somebody else's port of that number",
    ],
)
def test_a_flow_is_forgotten_when_nobody_answers_it(flow, stays):
    rig = Rig(flow)
    rig.dns(A)

    assert (rig.held == [flow]) is stays


def test_without_endpoints_every_flow_is_forgotten():
    rig = Rig(udp())
    rig.dns()

    assert rig.held == []


def test_flows_to_an_endpoint_that_only_finishes_what_it_has_go_on():
    rig = Rig(udp(to=B))
    rig.dns(endpoint(A), endpoint(B, ready=False, serving=True, terminating=True))

    assert rig.held == [udp(to=B)]


def test_the_flows_of_a_deleted_service_are_forgotten():
    rig = Rig()
    rig.dns(A)
    rig.connections.flows_held = [udp(), udp(NODE, 30053)]
    rig.flows.changed([rig.world.remove(named("dns"))])
    rig.flows.run_due()

    assert rig.held == []


def test_the_flows_of_a_service_deleted_while_the_proxy_was_down_are_forgotten():
    rig = Rig(udp(), udp("10.96.0.99", 54, mark=0))
    rig.look(Look.EVERYTHING)

    assert rig.held == [udp("10.96.0.99", 54, mark=0)]


def test_a_service_that_cannot_be_read_keeps_its_flows():
    rig = Rig()
    rig.dns(A)
    rig.connections.flows_held = [udp()]
    rig.dns(A, external_ips=("nonsense",))

    assert rig.held == [udp()]


def test_what_did_not_change_is_not_looked_for():
    rig = Rig()
    rig.dns(A)
    rig.connections.dumps.clear()
    rig.dns(A)

    assert rig.connections.dumps == []


def test_a_service_without_udp_costs_nothing():
    rig = Rig()
    rig.web(A)

    assert rig.connections.dumps == []


def test_single_fronts_are_looked_for_in_the_kernel():
    rig = Rig()
    rig.dns(A)

    assert set(rig.connections.dumps) == {Sent(ip_address(DNS), 53), Sent(None, 30053)}


def test_many_fronts_cost_two_dumps():
    rig = Rig(udp("10.96.1.7", to=GONE), udp())
    for last in range(200):
        ports, targets = [(53, "dns", "UDP")], [(5353, "dns", "UDP")]
        name = rig.world.put(
            service(f"dns{last}", f"10.96.1.{last}", ports=ports), endpoint_slice(f"dns{last}", [A], ports=targets)
        )
        rig.flows.changed([name])
    rig.flows.run_due()

    assert rig.connections.dumps == [flow_marks.OURS, flow_marks.UNMARKED]
    assert rig.held == []


def test_a_packet_that_was_under_way_is_found_by_a_second_look():
    rig = Rig()
    rig.dns(A)
    rig.connections.flows_held = [udp(to=GONE)]
    rig.look(*rig.flows._expected._fronts)

    assert rig.held == []


def test_what_could_not_be_read_is_read_again():
    rig = Rig(udp(to=GONE))
    rig.connections.broken = True
    rig.dns(A)
    rig.connections.broken = False
    rig.flows.run_due()

    assert rig.held == []


# --- TCP


def test_connections_of_an_endpoint_that_is_gone_are_kept():
    rig = Rig(tcp())
    rig.web(A)
    rig.look(Look.EVERYTHING)

    assert rig.held == [tcp()]


@pytest.mark.parametrize(
    ("flow", "is_reset"),
    [
        (tcp(), True),
        (tcp(A), False),
        (tcp(state=TCP_CONNTRACK_TIME_WAIT), False),
        (tcp(mark=0), True),
        (tcp(port=81), False),
    ],
    ids=["gone", "answered", "over", "of another proxy", "not served"],
)
def test_connections_of_an_endpoint_that_is_gone_are_reset_if_the_service_says_so(flow, is_reset):
    rig = Rig(flow)
    rig.web(A, on_removal="reset")

    assert (rig.connections.marks == [flow_marks.RESET]) is is_reset
    assert bool(rig.connections.probed) is is_reset


def test_a_connection_not_yet_answered_is_placed_anew():
    rig = Rig(tcp(state=TCP_CONNTRACK_SYN_SENT))
    rig.web(A, on_removal="reset")

    assert rig.held == []
    assert rig.connections.probed == []


def test_both_ends_are_made_to_show_themselves():
    rig = Rig(tcp()._replace(reply_to=ip_address(NODE), reply_to_port=50000))
    rig.web(A, on_removal="reset")

    client, front = End(ip_address("10.244.0.1"), 40000), End(ip_address(WEB), 80)
    assert rig.connections.probed == [
        (front, client),
        (End(ip_address(NODE), 50000), End(ip_address(GONE), 8080)),
    ]


def test_who_does_not_answer_is_forgotten_after_three_attempts():
    rig = Rig(tcp())
    rig.web(A, on_removal="reset")
    for _ in range(3):
        rig.look(Look.ENDINGS)

    assert len(rig.connections.probed) == 6
    assert rig.held == []


def test_without_the_right_to_probe_a_connection_stays_marked():
    rig = Rig(tcp())
    rig.connections.unprobed = True
    rig.web(A, on_removal="reset")
    for _ in range(5):
        rig.look(Look.ENDINGS)

    assert rig.connections.marks == [flow_marks.RESET]


def test_the_rules_that_reset_are_there_as_long_as_somebody_is_reset():
    rig = Rig(tcp())
    rig.web(A, on_removal="reset")
    assert f"{PROBE} notrack" in rig.nft.loaded[-1]
    assert f"ct mark {flow_marks.RESET:#x}" in rig.nft.loaded[-1]
    rig.look(Look.ENDINGS)  # somebody may have flushed them
    assert rig.nft.loaded[0] == rig.nft.loaded[1]
    rig.connections.flows_held.clear()
    rig.look(Look.ENDINGS)
    rig.look(Look.ENDINGS)

    assert rig.nft.loaded[2:] == [REMOVAL]


def test_the_rules_that_an_earlier_run_left_are_removed_once():
    rig = Rig()
    rig.look(Look.EVERYTHING)
    rig.look(Look.EVERYTHING)

    assert rig.nft.loaded == [REMOVAL]


def test_connections_that_drain_are_reset_when_their_time_is_over():
    rig = Rig(tcp())
    rig.web(A, on_removal="drain=30s")
    rig.now += 29
    rig.look(Look.ENDINGS)
    assert rig.connections.probed == []
    rig.now += 2
    rig.look(Look.ENDINGS)

    assert rig.connections.marks == [flow_marks.RESET]
    assert len(rig.connections.probed) == 2


def test_a_drain_goes_on_where_it_was_after_a_restart():
    rig = Rig(tcp())
    rig.web(A, on_removal="drain=30s")
    rig.now += 20
    rig.restart()
    rig.look(Look.EVERYTHING)
    rig.now += 11
    rig.look(Look.ENDINGS)

    assert rig.connections.marks == [flow_marks.RESET]


def test_an_endpoint_that_went_while_the_proxy_was_down_is_noticed():
    rig = Rig(tcp())
    rig.world.put(service("web", WEB, on_removal="reset"), endpoint_slice("web", [A]))
    rig.look(Look.EVERYTHING)

    assert rig.connections.marks == [flow_marks.RESET]


def test_an_endpoint_that_comes_back_keeps_its_connections():
    rig = Rig(tcp())
    rig.web(A, on_removal="drain=30s")
    rig.web(A, GONE, on_removal="drain=30s")
    rig.now += 31
    rig.look(Look.ENDINGS)
    assert rig.connections.marks == [flow_marks.SPARED]
    rig.web(A, on_removal="drain=30s")

    assert flow_marks.seconds_left(rig.connections.marks[0], rig.now) == 30


def test_the_connections_of_a_deleted_service_end_as_it_wished():
    rig = Rig()
    rig.web(A, on_removal="reset")
    rig.connections.flows_held = [tcp(A)]
    rig.flows.changed([rig.world.remove(named("web"))])
    rig.flows.run_due()

    assert rig.connections.marks == [flow_marks.RESET]


def test_a_service_that_takes_its_wish_back_keeps_its_connections():
    rig = Rig()
    rig.web(A, on_removal="reset")
    rig.connections.flows_held = [tcp(A), tcp()]
    rig.web(A)

    assert rig.connections.marks == [OURS, OURS]


def test_a_connection_begun_while_there_was_no_table_is_begun_again():
    lost = tcp(WEB, mark=0, state=TCP_CONNTRACK_SYN_SENT)
    elsewhere = tcp("192.0.2.9", destination="192.0.2.9", mark=0, state=TCP_CONNTRACK_SYN_SENT)
    rig = Rig(lost, elsewhere)
    rig.web(A)
    rig.look(Look.EVERYTHING)

    assert rig.held == [elsewhere]


# --- marks


@pytest.mark.parametrize("now", [0.0, 1_800_000_000.0, 0x0700_0000 - 5.0])
def test_a_mark_says_when_a_connection_ends(now):
    mark = flow_marks.ending_at(now + 30)

    assert flow_marks.is_ending(mark)
    assert (flow_marks.seconds_left(mark, now), flow_marks.seconds_left(mark, now + 40)) == (30, -10)


def test_marks_that_mean_something_else_are_no_ids():
    assert not flow_marks.is_ours(flow_marks.RESET)
    assert not flow_marks.is_ours(flow_marks.ending_at(5.0))
    assert not flow_marks.is_ending(OURS)


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\xff" * 40, b"\x08\x00\x01\x00abcd"])
def test_what_is_no_flow_is_read_as_none(garbage):
    assert conntrack.read_flow(garbage) is None
