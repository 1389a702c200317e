"""By which address other nodes reach this one.

Address plan: eth0 10.0.2.15/24 (first, on every machine the same) with the default route, eth1 192.0.2.1/24; the API
server is 192.0.2.254.
"""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dataplane.netlink.fake import FakeNetlink
from dataplane.netlink.objects import Bridge, InterfaceAddress, Route
from node import address
from node.address import NodeAddressError


@pytest.fixture
def netlink() -> FakeNetlink:
    machine = FakeNetlink()
    for name, text, mtu in (("eth0", "10.0.2.15/24", 1500), ("eth1", "192.0.2.1/24", 1400)):
        machine.create_bridge(Bridge(name=name, mac="02:00:00:00:00:01", mtu=mtu))
        machine.add_address(name, InterfaceAddress(interface=ip_interface(text)))
    machine.add_route(Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.0.2.2"), device="eth0"))
    return machine


def names(**known: str):
    def resolve(host: str):
        if host not in known:
            raise OSError(-2, "Name or service not known")
        return [ip_address(known[host])]

    return resolve


def test_the_way_to_the_api_server_decides_and_not_the_order_of_interfaces(netlink: FakeNetlink) -> None:
    assert address.choose(netlink, "https://192.0.2.254:6443") == ip_address("192.0.2.1")


def test_a_far_api_server_is_reached_from_the_default_routes_address(netlink: FakeNetlink) -> None:
    assert address.choose(netlink, "https://198.51.100.1:6443") == ip_address("10.0.2.15")


def test_a_name_is_resolved(netlink: FakeNetlink) -> None:
    assert address.choose(netlink, "https://api:6443", names(api="192.0.2.254")) == ip_address("192.0.2.1")


def test_the_api_server_on_this_machine_has_its_address(netlink: FakeNetlink) -> None:
    assert address.choose(netlink, "https://192.0.2.1:6443") == ip_address("192.0.2.1")


def test_an_api_server_on_loopback_says_nothing_so_the_default_route_does(netlink: FakeNetlink) -> None:
    assert address.choose(netlink, "https://127.0.0.1:6443") == ip_address("10.0.2.15")


def test_without_any_route_the_operator_is_told_of_the_flag() -> None:
    with pytest.raises(NodeAddressError, match=r"https://192\.0\.2\.254:6443.*no route.*--node-ip"):
        address.choose(FakeNetlink(), "https://192.0.2.254:6443")


def test_a_name_that_cannot_be_resolved_is_named(netlink: FakeNetlink) -> None:
    with pytest.raises(NodeAddressError, match=r"https://api:6443.*cannot be resolved"):
        address.choose(netlink, "https://api:6443", names())


@pytest.mark.parametrize(("text", "expected"), [("192.0.2.1", True), ("192.0.2.2", False), ("203.0.113.1", False)])
def test_an_own_address_is_told_from_others(netlink: FakeNetlink, text: str, *, expected: bool) -> None:
    assert address.is_here(netlink, ip_address(text)) is expected


def test_the_mtu_is_that_of_the_link_with_the_address(netlink: FakeNetlink) -> None:
    assert address.mtu_of(netlink, ip_address("192.0.2.1")) == 1400


def test_an_address_of_nobody_has_no_mtu(netlink: FakeNetlink) -> None:
    assert address.mtu_of(netlink, ip_address("192.0.2.2")) is None


def test_an_address_of_the_other_family_stands_beside_on_the_same_link(netlink: FakeNetlink) -> None:
    netlink.add_address("eth0", InterfaceAddress(interface=ip_interface("fd00:10::15/64")))
    netlink.add_address("eth1", InterfaceAddress(interface=ip_interface("fe80::1/64")))
    netlink.add_address("eth1", InterfaceAddress(interface=ip_interface("fd00:192:2::1/64")))
    assert address.beside(netlink, ip_address("192.0.2.1")) == ip_address("fd00:192:2::1")


def test_an_address_that_only_the_link_knows_is_none(netlink: FakeNetlink) -> None:
    netlink.add_address("eth1", InterfaceAddress(interface=ip_interface("fe80::1/64")))
    assert address.beside(netlink, ip_address("192.0.2.1")) is None
