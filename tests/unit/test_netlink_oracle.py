"""Our netlink messages as pyroute2 reads them, and pyroute2's as we read them: two implementations that share no line.

What a message means is pyroute2's word here, so a wrong number of ours cannot hide behind the same wrong number in a test.
"""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dataplane.netlink import constants, decode, encode
from dataplane.netlink.objects import Bridge, InterfaceAddress, Route, RouteOptions, VethEnd, VethPair
from dataplane.netlink.transport import HEADER_BYTES, NLM_F_REQUEST, request

BRIDGE = Bridge(name="podwire0", mac="02:00:00:00:00:01", mtu=1400)
PAIR = VethPair(
    host=VethEnd(name="pw0", mac="02:00:00:00:00:02"),
    peer=VethEnd(name="eth0", mac="0a:58:0a:01:00:02"),
    netns_fd=7,
    mtu=1450,
    master="podwire0",
    alias="default/web",
    hairpin=True,
)


def as_read(kind: type[nlmsg], body: bytes) -> nlmsg:
    """The message of ours as pyroute2 decodes it."""
    message = kind(request(constants.RTM_NEWLINK, NLM_F_REQUEST, body))
    message.decode()
    return message


def as_written(message: nlmsg) -> bytes:
    """The body of a message as pyroute2 encodes it."""
    message.encode()
    return bytes(message.data[HEADER_BYTES:])


def the_settings(link: nlmsg, name: str = "IFLA_INFO_DATA") -> Any:
    return link.get_attr("IFLA_LINKINFO").get_attr(name)


def test_a_bridge_is_made_up_with_its_mac_and_its_own_hooks() -> None:
    read = as_read(ifinfmsg, encode.bridge(BRIDGE))
    settings = the_settings(read)
    assert read.get_attr("IFLA_IFNAME") == "podwire0"
    assert read.get_attr("IFLA_ADDRESS") == BRIDGE.mac
    assert read.get_attr("IFLA_MTU") == 1400
    assert read["flags"] & 1  # IFF_UP
    assert the_settings(read, "IFLA_INFO_KIND") == "bridge"
    assert settings.get_attr("IFLA_BR_NF_CALL_IPTABLES") == 1
    assert settings.get_attr("IFLA_BR_NF_CALL_IP6TABLES") == 1


def test_one_message_makes_both_ends_of_a_veth() -> None:
    read = as_read(ifinfmsg, encode.veth(PAIR, 5))
    peer = the_settings(read).get_attr("VETH_INFO_PEER")
    assert (read.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_IFNAME")) == ("pw0", "eth0")
    assert (read.get_attr("IFLA_ADDRESS"), peer.get_attr("IFLA_ADDRESS")) == (PAIR.host.mac, PAIR.peer.mac)
    assert (read.get_attr("IFLA_MTU"), peer.get_attr("IFLA_MTU")) == (1450, 1450)
    assert (read.get_attr("IFLA_MASTER"), peer.get_attr("IFLA_MASTER")) == (5, None)
    assert peer.get_attr("IFLA_NET_NS_FD") == 7
    assert (read["flags"] & 1, peer["flags"] & 1) == (1, 0)


def test_the_host_end_is_described_for_people_and_sends_frames_back() -> None:
    read = as_read(ifinfmsg, encode.veth_description(PAIR))
    assert read.get_attr("IFLA_IFALIAS") == "default/web"
    assert the_settings(read, "IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_MODE") == 1


@pytest.mark.parametrize(("text", "family", "flags"), [("10.1.0.2/24", 2, None), ("fd00::2/64", 10, 0x02)])
def test_an_ipv6_address_is_used_without_asking_for_duplicates(text: str, family: int, flags: int | None) -> None:
    read = as_read(ifaddrmsg, encode.new_address(3, InterfaceAddress(interface=ip_interface(text))))
    address, _, length = text.partition("/")
    assert (read["family"], read["prefixlen"], read["index"]) == (family, int(length), 3)
    assert (read.get_attr("IFA_LOCAL"), read.get_attr("IFA_ADDRESS")) == (address, address)
    assert read.get_attr("IFA_FLAGS") == flags  # IFA_F_NODAD


@pytest.mark.parametrize(("destination", "gateway"), [("10.2.0.0/24", "10.1.0.9"), ("fd00:2::/64", "fd00:1::9")])
def test_a_route_says_its_way_and_whose_it_is(destination: str, gateway: str) -> None:
    options = RouteOptions(mtu=1400, advmss=1360, priority=50, table=1000)
    route = Route(destination=ip_network(destination), gateway=ip_address(gateway), protocol=112, options=options)
    read = as_read(rtmsg, encode.route(route, 4))
    metrics = read.get_attr("RTA_METRICS")
    assert f"{read.get_attr('RTA_DST')}/{read['dst_len']}" == destination
    assert (read.get_attr("RTA_GATEWAY"), read.get_attr("RTA_OIF"), read["proto"]) == (gateway, 4, 112)
    assert (read.get_attr("RTA_TABLE"), read.get_attr("RTA_PRIORITY")) == (1000, 50)
    assert (metrics.get_attr("RTAX_MTU"), metrics.get_attr("RTAX_ADVMSS")) == (1400, 1360)


def test_a_route_of_another_program_is_read_as_it_means_it() -> None:
    message = rtmsg()
    message.update({"family": 2, "dst_len": 16, "proto": 4, "type": 1, "scope": 0})
    attributes = {"RTA_DST": "10.9.0.0", "RTA_GATEWAY": "10.1.0.9", "RTA_OIF": 4, "RTA_PREFSRC": "10.1.0.1"}
    message["attrs"] = list(attributes.items())
    assert decode.route(as_written(message), {4: "eth0"}.get) == Route(
        destination=ip_network("10.9.0.0/16"),
        gateway=ip_address("10.1.0.9"),
        device="eth0",
        source=ip_address("10.1.0.1"),
        protocol=4,
    )


@pytest.mark.parametrize("text", ["10.1.0.2/24", "fd00::2/64"])
def test_an_address_of_another_program_is_read_as_it_means_it(text: str) -> None:
    interface = ip_interface(text)
    message = ifaddrmsg()
    message.update({"family": {4: 2, 6: 10}[interface.version], "prefixlen": interface.network.prefixlen, "index": 3})
    message["attrs"] = [("IFA_ADDRESS", str(interface.ip)), ("IFA_FLAGS", 0x02)]
    assert decode.interface_address(as_written(message)) == InterfaceAddress(interface=interface, nodad=True)
