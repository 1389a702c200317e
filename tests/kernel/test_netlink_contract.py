"""What every `Netlink` promises, asked of the fake, of the kernel from inside a namespace, and of it through a descriptor.

Address plan: bridge br0 10.1.0.1/24 in the node's namespace, pod eth0 10.1.0.2/24, far networks 10.2.0.0/24 behind 10.1.0.9.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dataplane import netns
from dataplane.errors import AlreadyExists, DataplaneError, NotFound
from dataplane.netlink.fake import FakeKernel, FakeNetlink
from dataplane.netlink.interface import Netlink
from dataplane.netlink.linux import LinuxNetlink
from dataplane.netlink.objects import Bridge, InterfaceAddress, Protocol, Route, Scope, VethEnd, VethPair
from tests import namespaces

BRIDGE = Bridge(name="br0", mac="02:00:00:00:00:01", mtu=1400)
GATEWAY = InterfaceAddress(interface=ip_interface("10.1.0.1/24"))
FAR = ip_network("10.2.0.0/24")
TO_FAR = Route(destination=FAR, gateway=ip_address("10.1.0.9"), device="br0", protocol=Protocol.PODWIRE)


@dataclass(frozen=True)
class World:
    node: Netlink
    pod: Netlink
    pod_fd: int

    def pair(self, **changes) -> VethPair:
        settings = {
            "host": VethEnd(name="pw0", mac="02:00:00:00:00:02"),
            "peer": VethEnd(name="eth0", mac="0a:58:0a:01:00:02"),
            "netns_fd": self.pod_fd,
            "mtu": 1400,
            "master": "br0",
            "alias": "default/web",
            "hairpin": True,
        }
        return VethPair(**(settings | changes))


def fake_world(_stack: contextlib.ExitStack) -> World:
    kernel = FakeKernel()
    node, pod = FakeNetlink(kernel), FakeNetlink(kernel)
    return World(node, pod, pod.fd)


def linux_world(
    stack: contextlib.ExitStack, open_netlink: Callable[[namespaces.Namespace, int], LinuxNetlink]
) -> World:
    ends = []
    for label in ("node", "pod"):
        namespace = stack.enter_context(namespaces.namespace(label))
        opened = stack.enter_context(netns.open_netns(namespace.path))
        netlink = open_netlink(namespace, opened.fd)
        stack.callback(netlink.close)
        ends.append((netlink, opened.fd))
    return World(ends[0][0], ends[1][0], ends[1][1])


WORLDS = {
    "fake": fake_world,
    "inside": lambda stack: linux_world(stack, lambda namespace, _fd: namespace.call(LinuxNetlink)),
    "by-descriptor": lambda stack: linux_world(stack, lambda _namespace, fd: LinuxNetlink(fd)),
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield WORLDS[request.param](stack)


@pytest.fixture
def bridged(world: World) -> World:
    world.node.create_bridge(BRIDGE)
    world.node.add_address("br0", GATEWAY)
    return world


def test_an_absent_link_is_none(world: World) -> None:
    assert world.node.link("br0") is None


def test_a_fresh_namespace_has_only_its_loopback(world: World) -> None:
    assert [link.name for link in world.node.links()] == ["lo"]


def test_a_bridge_is_born_up_with_its_mac_and_its_own_netfilter_calls(world: World) -> None:
    world.node.create_bridge(BRIDGE)
    link = world.node.link("br0")
    assert (link.kind, link.mac, link.mtu, link.up) == ("bridge", BRIDGE.mac, 1400, True)
    assert (link.nf_call_iptables, link.nf_call_ip6tables) == (True, True)


def test_a_bridge_keeps_its_mac_when_ports_with_lower_ones_join(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair(host=VethEnd(name="pw0", mac="00:00:00:00:00:05")))
    assert bridged.node.link("br0").mac == BRIDGE.mac


def test_a_second_bridge_of_the_same_name_is_refused_and_changes_nothing(world: World) -> None:
    world.node.create_bridge(BRIDGE)
    with pytest.raises(AlreadyExists, match="create bridge br0"):
        world.node.create_bridge(Bridge(name="br0", mac="02:00:00:00:00:99"))
    assert world.node.link("br0").mac == BRIDGE.mac


def test_the_host_end_of_a_veth_is_a_hairpin_port_of_its_bridge_with_an_alias(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    host = bridged.node.link("pw0")
    assert (host.kind, host.mac, host.mtu, host.up) == ("veth", "02:00:00:00:00:02", 1400, True)
    assert (host.master, host.hairpin, host.alias) == (bridged.node.link("br0").index, True, "default/web")


def test_the_peer_is_down_in_its_namespace_with_its_name_mac_and_mtu(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    peer = bridged.pod.link("eth0")
    assert (peer.kind, peer.mac, peer.mtu, peer.up) == ("veth", "0a:58:0a:01:00:02", 1400, False)
    assert bridged.node.link("eth0") is None


def test_the_ends_of_a_veth_name_each_other(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    host, peer = bridged.node.link("pw0"), bridged.pod.link("eth0")
    assert (host.peer_index, peer.peer_index) == (peer.index, host.index)
    assert None not in (host.peer_netnsid, peer.peer_netnsid)


def test_a_veth_needs_no_bridge(world: World) -> None:
    world.node.create_veth(world.pair(master=None, hairpin=False, alias=""))
    assert (world.node.link("pw0").master, world.node.link("pw0").alias) == (None, "")


@pytest.mark.parametrize("taken", ["host", "peer"])
def test_a_taken_name_refuses_the_whole_veth(bridged: World, taken: str) -> None:
    bridged.node.create_veth(bridged.pair())
    other = {"host": {"peer": VethEnd(name="eth1", mac="02:00:00:00:00:07")}}
    other["peer"] = {"host": VethEnd(name="pw1", mac="02:00:00:00:00:07")}
    with pytest.raises(AlreadyExists, match="create veth pw"):
        bridged.node.create_veth(bridged.pair(alias="other", **other[taken]))
    assert [link.name for link in bridged.node.links()] == ["lo", "br0", "pw0"]
    assert [link.name for link in bridged.pod.links()] == ["lo", "eth0"]
    assert bridged.node.link("pw0").alias == "default/web"


def test_a_veth_on_an_absent_bridge_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(NotFound, match="on bridge br0"):
        world.node.create_veth(world.pair())
    assert [link.name for link in world.node.links()] == ["lo"]


def test_a_veth_into_a_bad_descriptor_is_refused(bridged: World) -> None:
    with pytest.raises(DataplaneError) as failure:
        bridged.node.create_veth(bridged.pair(netns_fd=999_999))
    assert failure.value.code == errno.EBADF


@pytest.mark.parametrize("name", ["", "sixteen-letters-"])
def test_a_name_the_kernel_cannot_hold_is_refused(world: World, name: str) -> None:
    with pytest.raises(DataplaneError):
        world.node.create_bridge(Bridge(name=name, mac="02:00:00:00:00:01"))
    assert [link.name for link in world.node.links()] == ["lo"]


def test_deleting_one_end_of_a_veth_deletes_the_other(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    bridged.node.delete_link("pw0")
    assert (bridged.node.link("pw0"), bridged.pod.link("eth0")) == (None, None)


def test_deleting_an_absent_link_succeeds(world: World) -> None:
    world.node.delete_link("pw0")


def test_setting_an_absent_link_up_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="set pw0 up"):
        world.node.set_up("pw0")


def test_an_alias_can_be_changed(bridged: World) -> None:
    bridged.node.set_alias("br0", "the pods")
    assert bridged.node.link("br0").alias == "the pods"


@pytest.mark.parametrize("text", ["10.1.0.7/24", "10.1.0.7/32", "fd00::7/64"])
def test_an_address_reads_back_as_it_was_added(bridged: World, text: str) -> None:
    address = InterfaceAddress(interface=ip_interface(text))
    bridged.node.add_address("br0", address)
    assert address in bridged.node.addresses("br0")


def test_link_local_addresses_are_not_listed(bridged: World) -> None:
    assert bridged.node.addresses("br0") == (GATEWAY,)


def test_an_address_twice_is_refused(bridged: World) -> None:
    with pytest.raises(AlreadyExists, match=r"add address 10.1.0.1/24 to br0"):
        bridged.node.add_address("br0", GATEWAY)


def test_an_address_on_an_absent_link_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match=r"no link br0|ENODEV"):
        world.node.add_address("br0", GATEWAY)


def test_deleting_an_address_takes_its_network_with_it(bridged: World) -> None:
    bridged.node.delete_address("br0", GATEWAY.interface)
    assert (bridged.node.addresses("br0"), bridged.node.routes()) == ((), ())


def test_deleting_an_absent_address_succeeds(bridged: World) -> None:
    bridged.node.delete_address("br0", ip_interface("10.9.9.9/24"))
    bridged.node.delete_address("br1", ip_interface("10.9.9.9/24"))
    assert bridged.node.addresses("br0") == (GATEWAY,)


def test_an_address_brings_the_route_to_its_network(bridged: World) -> None:
    connected = Route(
        destination=ip_network("10.1.0.0/24"), device="br0", source=ip_address("10.1.0.1"), protocol=Protocol.KERNEL
    )
    assert bridged.node.routes() == (connected,)


def test_an_address_on_a_link_that_is_down_brings_its_route_when_it_goes_up(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    bridged.pod.add_address("eth0", InterfaceAddress(interface=ip_interface("10.1.0.2/24")))
    assert bridged.pod.routes() == ()
    bridged.pod.set_up("eth0")
    assert [route.destination for route in bridged.pod.routes()] == [ip_network("10.1.0.0/24")]


def test_a_route_reads_back_as_it_was_added(bridged: World) -> None:
    bridged.node.add_route(TO_FAR)
    assert bridged.node.routes(Protocol.PODWIRE) == (TO_FAR,)


def test_a_route_finds_its_device_by_its_gateway(bridged: World) -> None:
    bridged.node.add_route(Route(destination=FAR, gateway=TO_FAR.gateway, protocol=Protocol.PODWIRE))
    assert bridged.node.routes(Protocol.PODWIRE) == (TO_FAR,)


def test_a_default_route_reads_back(bridged: World) -> None:
    default = Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.1.0.9"), device="br0")
    bridged.node.add_route(default)
    assert default in bridged.node.routes()


def test_a_route_on_the_link_with_a_source_reads_back(bridged: World) -> None:
    route = Route(destination=FAR, device="br0", source=ip_address("10.1.0.1"), protocol=Protocol.PODWIRE)
    bridged.node.add_route(route)
    assert bridged.node.routes(Protocol.PODWIRE) == (route,)
    assert route.scope == Scope.LINK


def test_routes_of_other_programs_are_not_ours(bridged: World) -> None:
    bridged.node.add_route(Route(destination=FAR, device="br0", protocol=Protocol.STATIC))
    assert bridged.node.routes(Protocol.PODWIRE) == ()


def test_a_second_route_to_the_same_destination_is_refused_and_changes_nothing(bridged: World) -> None:
    bridged.node.add_route(TO_FAR)
    with pytest.raises(AlreadyExists, match=r"add route 10.2.0.0/24"):
        bridged.node.add_route(Route(destination=FAR, device="br0", protocol=Protocol.STATIC))
    assert bridged.node.routes(Protocol.PODWIRE) == (TO_FAR,)


def test_a_replaced_route_is_the_only_one(bridged: World) -> None:
    bridged.node.add_route(TO_FAR)
    moved = Route(destination=FAR, gateway=ip_address("10.1.0.8"), device="br0", protocol=Protocol.PODWIRE)
    bridged.node.replace_route(moved)
    assert bridged.node.routes(Protocol.PODWIRE) == (moved,)


def test_replacing_adds_what_is_absent(bridged: World) -> None:
    bridged.node.replace_route(TO_FAR)
    assert bridged.node.routes(Protocol.PODWIRE) == (TO_FAR,)


def test_deleting_a_route_leaves_another_programs_route_to_the_same_place(bridged: World) -> None:
    bridged.node.add_route(Route(destination=FAR, gateway=TO_FAR.gateway, device="br0", protocol=Protocol.STATIC))
    bridged.node.delete_route(TO_FAR)
    assert FAR in {route.destination for route in bridged.node.routes(Protocol.STATIC)}


def test_deleting_an_absent_route_succeeds(bridged: World) -> None:
    bridged.node.delete_route(TO_FAR)


def test_a_route_through_an_absent_link_is_not_found(bridged: World) -> None:
    with pytest.raises(NotFound):
        bridged.node.add_route(Route(destination=FAR, device="br1"))


def test_a_route_through_a_gateway_that_is_not_on_link_is_refused(bridged: World) -> None:
    with pytest.raises(DataplaneError, match=r"via 192.0.2.1") as failure:
        bridged.node.add_route(Route(destination=FAR, gateway=ip_address("192.0.2.1"), device="br0"))
    assert failure.value.code == errno.ENETUNREACH


def test_a_route_from_an_address_that_is_not_here_is_refused(bridged: World) -> None:
    with pytest.raises(DataplaneError) as failure:
        bridged.node.add_route(Route(destination=FAR, device="br0", source=ip_address("10.1.0.77")))
    assert failure.value.code == errno.EINVAL


def test_a_route_through_a_link_that_is_down_is_refused(bridged: World) -> None:
    bridged.node.create_veth(bridged.pair())
    with pytest.raises(DataplaneError) as failure:
        bridged.pod.add_route(Route(destination=FAR, device="eth0"))
    assert failure.value.code == errno.ENETDOWN


def test_a_deleted_link_takes_its_routes_with_it(bridged: World) -> None:
    bridged.node.add_route(TO_FAR)
    bridged.node.delete_link("br0")
    assert bridged.node.routes() == ()


def test_the_way_to_a_neighbour_is_the_link_and_its_address(bridged: World) -> None:
    way = bridged.node.route_to(ip_address("10.1.0.9"))
    assert (way.device, way.source, way.gateway) == ("br0", ip_address("10.1.0.1"), None)


def test_the_way_to_a_far_network_is_its_gateway(bridged: World) -> None:
    bridged.node.add_route(TO_FAR)
    way = bridged.node.route_to(ip_address("10.2.0.5"))
    assert (way.device, way.source, way.gateway) == ("br0", ip_address("10.1.0.1"), ip_address("10.1.0.9"))


def test_without_a_way_it_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match=r"route to 10.2.0.5"):
        world.node.route_to(ip_address("10.2.0.5"))


def test_the_way_to_an_own_address_is_the_loopback(bridged: World) -> None:
    way = bridged.node.route_to(ip_address("10.1.0.1"))
    assert (way.device, way.source, way.gateway) == ("lo", ip_address("10.1.0.1"), None)


FAR6 = ip_network("fd02::/64")
TO_FAR6 = Route(destination=FAR6, gateway=ip_address("fd01::9"), device="br0", protocol=Protocol.PODWIRE)


@pytest.fixture
def bridged6(bridged: World) -> World:
    bridged.node.add_address("br0", InterfaceAddress(interface=ip_interface("fd01::1/64")))
    return bridged


def test_an_ipv6_route_reads_back_is_replaced_and_deleted(bridged6: World) -> None:
    moved = Route(destination=FAR6, gateway=ip_address("fd01::8"), device="br0", protocol=Protocol.PODWIRE)
    seen = []
    for change, route in (
        (bridged6.node.add_route, TO_FAR6),
        (bridged6.node.replace_route, moved),
        (bridged6.node.delete_route, moved),
        (bridged6.node.delete_route, moved),
    ):
        change(route)
        seen.append(bridged6.node.routes(Protocol.PODWIRE))
    assert seen == [(TO_FAR6,), (moved,), (), ()]


def test_a_second_ipv6_route_to_the_same_destination_is_refused(bridged6: World) -> None:
    bridged6.node.add_route(TO_FAR6)
    with pytest.raises(AlreadyExists, match="add route fd02::/64"):
        bridged6.node.add_route(TO_FAR6)


def test_the_way_to_an_ipv6_neighbour_is_the_link_and_its_address(bridged6: World) -> None:
    way = bridged6.node.route_to(ip_address("fd01::9"))
    assert (way.device, way.source, way.gateway) == ("br0", ip_address("fd01::1"), None)
