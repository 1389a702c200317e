"""What only the kernel can show: sockets that stay in their namespace, threads, refusals in its own words, packets.

Address plan: bridge br0 10.1.0.1/24, pods 10.1.0.2 and up.
"""

import os
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dataplane import netns
from dataplane.errors import AlreadyExists, DataplaneError, NotFound
from dataplane.netlink.linux import LinuxNetlink
from dataplane.netlink.objects import Bridge, InterfaceAddress, Protocol, Route, VethEnd, VethPair
from tests.namespaces import Namespace
from tests.waiting import eventually

MakeNamespace = Callable[[str], Namespace]


@pytest.fixture
def node(make_namespace: MakeNamespace) -> Namespace:
    return make_namespace("node")


@pytest.fixture
def netlink(node: Namespace) -> Iterator[LinuxNetlink]:
    with netns.open_netns(node.path) as opened:
        netlink = LinuxNetlink(opened.fd)
    netlink.create_bridge(Bridge(name="br0", mac="0a:58:0a:01:00:01"))
    netlink.add_address("br0", InterfaceAddress(interface=ip_interface("10.1.0.1/24")))
    yield netlink
    netlink.close()


def pair(number: int, netns_fd: int) -> VethPair:
    return VethPair(
        host=VethEnd(name=f"pw{number}", mac=f"02:00:00:00:00:{number:02x}"),
        peer=VethEnd(name="eth0", mac=f"0a:58:0a:01:00:{number:02x}"),
        netns_fd=netns_fd,
        master="br0",
        alias=f"default/web-{number}",
        hairpin=True,
    )


def wire(netlink: LinuxNetlink, pod: Namespace, number: int) -> None:
    with netns.open_netns(pod.path) as opened:
        netlink.create_veth(pair(number, opened.fd))
        inside = LinuxNetlink(opened.fd)
    inside.add_address("eth0", InterfaceAddress(interface=ip_interface(f"10.1.0.{number}/24")))
    inside.set_up("eth0")
    inside.add_route(Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.1.0.1"), device="eth0"))
    inside.close()


def test_a_wired_pod_answers(netlink: LinuxNetlink, node: Namespace, make_namespace: MakeNamespace) -> None:
    wire(netlink, make_namespace("pod"), 2)
    assert eventually(lambda: "1 received" in node.run("ping", "-c1", "-W1", "10.1.0.2", check=False))


def test_two_wired_pods_reach_each_other(netlink: LinuxNetlink, make_namespace: MakeNamespace) -> None:
    one, two = make_namespace("one"), make_namespace("two")
    wire(netlink, one, 2)
    wire(netlink, two, 3)
    assert eventually(lambda: "1 received" in one.run("ping", "-c1", "-W1", "10.1.0.3", check=False))


def test_iproute2_sees_what_was_asked_for(
    netlink: LinuxNetlink, node: Namespace, make_namespace: MakeNamespace
) -> None:
    wire(netlink, make_namespace("pod"), 2)
    shown = node.run("ip", "-d", "link", "show", "pw2")
    assert "master br0" in shown
    assert "hairpin on" in shown
    assert "alias default/web-2" in shown
    bridge = node.run("ip", "-d", "link", "show", "br0")
    assert "nf_call_iptables 1 nf_call_ip6tables 1" in bridge


def test_a_mac_given_at_creation_is_marked_as_set_so_that_udev_leaves_it_alone(
    netlink: LinuxNetlink, node: Namespace, make_namespace: MakeNamespace
) -> None:
    pod = make_namespace("pod")
    wire(netlink, pod, 2)
    # /sys shows the namespace of the process that mounted it, so it is mounted anew. 3 is NET_ADDR_SET.
    for namespace, link in ((node, "br0"), (node, "pw2"), (pod, "eth0")):
        script = f"mount -t sysfs sysfs /sys && cat /sys/class/net/{link}/addr_assign_type"
        assert namespace.run("unshare", "--mount", "sh", "-c", script).strip() == "3"


def test_an_ipv6_address_is_usable_at_once(
    netlink: LinuxNetlink, node: Namespace, make_namespace: MakeNamespace
) -> None:
    pod = make_namespace("pod")
    wire(netlink, pod, 2)
    netlink.add_address("br0", InterfaceAddress(interface=ip_interface("fd00:1::1/64")))
    assert "tentative" not in node.run("ip", "-6", "address", "show", "dev", "br0", "to", "fd00:1::1")


def test_the_socket_stays_in_a_namespace_that_lost_its_name(make_namespace: MakeNamespace) -> None:
    before = netns.current_identity()
    name = f"pwt-lost-{os.getpid()}"
    with netns.open_netns(netns.create(name)) as opened:
        netlink = LinuxNetlink(opened.fd)
    netns.delete(name)
    netlink.create_bridge(Bridge(name="br0", mac="0a:58:0a:01:00:01"))
    assert [link.name for link in netlink.links()] == ["lo", "br0"]
    assert netns.current_identity() == before
    netlink.close()


def test_threads_may_share_one_socket(netlink: LinuxNetlink) -> None:
    failures: list[Exception] = []

    def use(number: int) -> None:
        destination = ip_network(f"10.2.{number}.0/24")
        route = Route(destination=destination, device="br0", protocol=Protocol.PODWIRE)
        try:
            for _ in range(25):
                netlink.add_route(route)
                assert destination in {each.destination for each in netlink.routes(Protocol.PODWIRE)}
                assert netlink.link("br0").name == "br0"
                netlink.delete_route(route)
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, netlink.routes(Protocol.PODWIRE)) == ([], ())


def test_of_many_that_make_one_bridge_exactly_one_succeeds(node: Namespace) -> None:
    outcomes: list[str] = []

    def make() -> None:
        with netns.open_netns(node.path) as opened:
            netlink = LinuxNetlink(opened.fd)
        try:
            netlink.create_bridge(Bridge(name="br0", mac="0a:58:0a:01:00:01"))
            outcomes.append("made")
        except AlreadyExists:
            outcomes.append("there")
        netlink.close()

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["there"] * 7


def test_the_kernels_own_words_are_part_of_the_error(netlink: LinuxNetlink) -> None:
    far = Route(destination=ip_network("10.2.0.0/24"), gateway=ip_address("192.0.2.1"), device="br0")
    with pytest.raises(DataplaneError, match=r"add route 10\.2\.0\.0/24 via 192\.0\.2\.1.*Nexthop has invalid gateway"):
        netlink.add_route(far)


def test_long_lists_arrive_whole(netlink: LinuxNetlink, node: Namespace) -> None:
    commands = "\n".join(f"route add 10.{10 + n // 250}.{n % 250}.0/24 dev br0 proto 112" for n in range(3000))
    node.run("ip", "-batch", "-", stdin=commands)
    assert len(set(netlink.routes(Protocol.PODWIRE))) == 3000


def test_a_name_with_other_characters_survives(netlink: LinuxNetlink) -> None:
    netlink.create_bridge(Bridge(name="br.0-ä", mac="02:00:00:00:00:09"))
    assert netlink.link("br.0-ä").name == "br.0-ä"


def test_a_pod_namespace_that_vanishes_takes_the_host_end_with_it(
    netlink: LinuxNetlink, make_namespace: MakeNamespace
) -> None:
    name = f"pwt-gone-{os.getpid()}"
    with netns.open_netns(netns.create(name)) as opened:
        netlink.create_veth(pair(2, opened.fd))
    netns.delete(name)
    eventually(lambda: netlink.link("pw2") is None)
    netlink.delete_link("pw2")


def test_opening_and_closing_leaves_no_descriptor(node: Namespace) -> None:
    def use() -> None:
        with netns.open_netns(node.path) as opened:
            netlink = LinuxNetlink(opened.fd)
        netlink.links()
        netlink.close()

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        use()
    # What an earlier test left may close meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_closed_socket_is_an_error_and_not_another_namespaces(netlink: LinuxNetlink) -> None:
    netlink.close()
    with pytest.raises(DataplaneError, match="list links"):
        netlink.links()


def test_a_link_that_is_not_there_is_not_found_in_every_verb(netlink: LinuxNetlink) -> None:
    address = InterfaceAddress(interface=ip_interface("10.9.0.1/24"))
    for verb in (
        lambda: netlink.set_up("none"),
        lambda: netlink.set_alias("none", "text"),
        lambda: netlink.addresses("none"),
        lambda: netlink.add_address("none", address),
    ):
        with pytest.raises(NotFound):
            verb()
