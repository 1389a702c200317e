"""The parts of a node in memory: when they act, what they leave alone, and what is said of readiness.

Address plan: this node is n1, 192.0.2.1/24 on eth0 with MTU 1400; n2 is 192.0.2.2; podCIDRs 10.244.N.0/24.
"""

import os
import sys
from ipaddress import ip_interface, ip_network
from pathlib import Path

import msgspec
import pytest
import structlog

from dataplane.netlink.objects import Bridge, InterfaceAddress, Protocol, Route
from dataplane.nft.fake import FakeNft
from kube.cache import Cache
from kube.events import Put, Replace
from kube.objects import Node, NodeAddress, NodeSpec, NodeStatus, ObjectMeta
from node import conflist, masquerade
from node.pod_network import Paths
from node.registration import Readiness
from node.upkeep import Doors, Part, Upkeep
from tests.cni_node import FakeNode

OLD_ROUTE = Route(destination=ip_network("10.244.9.0/24"), device="eth0", protocol=Protocol.PODWIRE)


def node(number: int, cidr: str | None = None) -> Node:
    text = f"10.244.{number}.0/24" if cidr is None else cidr
    address = NodeAddress(type="InternalIP", address=f"192.0.2.{number}")
    return Node(
        metadata=ObjectMeta(name=f"n{number}"),
        spec=NodeSpec(pod_cidr=text, pod_cidrs=(text,) if text else ()),
        status=NodeStatus(addresses=(address,)),
    )


class World:
    """A node that has a route from an earlier life, and the agent's parts."""

    def __init__(self, directory: Path) -> None:
        self.kernel = FakeNode(directory)
        self.kernel.netlink.create_bridge(Bridge(name="eth0", mac="02:00:00:00:00:01", mtu=1400))
        self.kernel.netlink.add_address("eth0", InterfaceAddress(interface=ip_interface("192.0.2.1/24")))
        self.kernel.netlink.add_route(OLD_ROUTE)
        self.has_ipv6 = True
        self.nft, self.nft6 = FakeNft(masquerade.TABLE), FakeNft(masquerade.TABLE6)
        self.nodes: Cache[Node] = Cache()
        self.paths = Paths(
            conf_dir=directory / "net.d",
            bin_dir=directory / "bin",
            leases=directory / "leases",
            socket=directory / "cni.sock",
            python=Path(sys.executable),
        )
        doors = Doors(host=self.kernel.host(), nft=self.nft, nft6=self.nft6, has_ipv6=lambda: self.has_ipv6)
        self.upkeep = Upkeep("n1", self.nodes, paths=self.paths, doors=doors)

    def sync(self) -> None:
        for part in (Part.NETWORK, Part.ROUTES, Part.MASQUERADE):
            self.upkeep.sync(part)

    @property
    def routes(self) -> set[str]:
        return {str(route.destination) for route in self.kernel.netlink.routes(Protocol.PODWIRE)}

    @property
    def pod_cidrs(self) -> set[str]:
        path = self.paths.conflist
        return {str(cidr) for cidr in conflist.pod_cidrs(path.read_bytes())} if path.exists() else set()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def untouched(world: World) -> bool:
    return world.routes == {str(OLD_ROUTE.destination)} and world.pod_cidrs == set() and world.nft.loaded == []


def test_before_the_list_is_complete_nothing_is_touched(world: World) -> None:
    world.nodes.apply(Put(node(1)))
    world.nodes.apply(Put(node(2)))
    world.sync()
    assert untouched(world)


def test_a_server_that_does_not_know_this_node_takes_nothing_away(world: World) -> None:
    world.nodes.replace(Replace((node(2),)))
    world.sync()
    assert untouched(world)


def test_with_the_list_everything_is_set_up(world: World) -> None:
    world.nodes.replace(Replace((node(1), node(2))))
    world.sync()
    assert (world.routes, world.pod_cidrs, len(world.nft.loaded)) == ({"10.244.2.0/24"}, {"10.244.1.0/24"}, 1)


def test_a_second_round_writes_nothing(world: World) -> None:
    world.nodes.replace(Replace((node(1), node(2))))
    world.sync()
    before = world.paths.conflist.stat().st_ino
    world.sync()
    assert (world.paths.conflist.stat().st_ino, len(world.nft.loaded)) == (before, 1)


def test_the_mtu_is_that_of_the_way_to_the_other_nodes(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    world.sync()
    assert b'"mtu": 1400' in world.paths.conflist.read_bytes()


def test_a_removed_network_configuration_is_written_again(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    world.sync()
    world.paths.conflist.unlink()
    world.sync()
    assert world.pod_cidrs == {"10.244.1.0/24"}


def test_a_changed_podcidr_is_told_with_both(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    world.sync()
    world.nodes.apply(Put(node(1, "10.244.7.0/24")))
    with structlog.testing.capture_logs() as logs:
        world.sync()
    assert [(line["old"], line["new"]) for line in logs if "old" in line] == [("10.244.1.0/24", "10.244.7.0/24")]
    assert world.pod_cidrs == {"10.244.7.0/24"}


def test_readiness_is_unknown_until_the_network_configuration_was_looked_at(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    assert world.upkeep.readiness() is None


def test_a_node_with_its_configuration_is_ready(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    world.sync()
    assert world.upkeep.readiness() == Readiness(ready=True, message="pods get addresses of 10.244.1.0/24")


@pytest.mark.parametrize("cidr", ["", "garbage"])
def test_a_node_without_a_usable_podcidr_waits(world: World, cidr: str) -> None:
    world.nodes.replace(Replace((node(1, cidr),)))
    world.sync()
    assert world.upkeep.readiness() == Readiness(ready=False, message="waiting for a podCIDR")


def test_a_configuration_that_cannot_be_written_is_the_reason(world: World) -> None:
    world.paths.conf_dir.write_text("not a folder")
    world.nodes.replace(Replace((node(1),)))
    with pytest.raises(OSError, match=r"net\.d"):
        world.upkeep.sync(Part.NETWORK)
    readiness = world.upkeep.readiness()
    assert not readiness.ready
    assert "net.d" in readiness.message


def test_ready_again_once_it_can_be_written(world: World) -> None:
    world.paths.conf_dir.write_text("not a folder")
    world.nodes.replace(Replace((node(1),)))
    with pytest.raises(OSError, match=r"net\.d"):
        world.upkeep.sync(Part.NETWORK)
    world.paths.conf_dir.unlink()
    world.upkeep.sync(Part.NETWORK)
    assert world.upkeep.readiness().ready


@pytest.mark.parametrize(
    "harm", [Path.unlink, lambda path: path.write_text("#!/bin/false"), lambda path: path.chmod(0o600)]
)
def test_a_damaged_plugin_is_installed_again(world: World, harm) -> None:
    world.upkeep.sync(Part.PLUGIN)
    path = world.paths.bin_dir / "podwire"
    good = path.read_bytes()
    harm(path)
    world.upkeep.sync(Part.PLUGIN)
    assert (path.read_bytes(), os.access(path, os.X_OK)) == (good, True)


def test_a_node_is_ready_only_with_its_plugin(world: World) -> None:
    world.paths.bin_dir.write_text("not a folder")
    world.nodes.replace(Replace((node(1),)))
    with pytest.raises(OSError, match="bin"):
        world.upkeep.sync(Part.NETWORK)
    assert (world.upkeep.readiness().ready, world.pod_cidrs) == (False, set())


def test_an_installed_plugin_is_left_alone(world: World) -> None:
    world.upkeep.sync(Part.PLUGIN)
    before = (world.paths.bin_dir / "podwire").stat().st_ino
    world.upkeep.sync(Part.PLUGIN)
    assert (world.paths.bin_dir / "podwire").stat().st_ino == before


def dual(number: int) -> Node:
    cidrs = (f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")
    return msgspec.structs.replace(node(number), spec=NodeSpec(pod_cidr=cidrs[0], pod_cidrs=cidrs))


def test_the_ipv6_table_is_made_when_pods_get_ipv6_addresses(world: World) -> None:
    world.nodes.replace(Replace((node(1),)))
    world.sync()
    assert world.nft6.loaded == []
    world.nodes.apply(Put(dual(1)))
    world.sync()
    assert (len(world.nft6.loaded), world.pod_cidrs) == (1, {"10.244.1.0/24", "fd00:10:244:1::/64"})


def test_where_ipv6_is_switched_off_pods_get_ipv4_and_the_operator_is_told_once(world: World) -> None:
    world.has_ipv6 = False
    world.nodes.replace(Replace((dual(1), dual(2))))
    with structlog.testing.capture_logs() as logs:
        world.sync()
        world.sync()
    assert (world.routes, world.pod_cidrs, world.nft6.loaded) == ({"10.244.2.0/24"}, {"10.244.1.0/24"}, [])
    assert sum("IPv6 is switched off" in line.get("problem", "") for line in logs) == 1


def test_when_ipv6_is_switched_on_it_is_given(world: World) -> None:
    world.has_ipv6 = False
    world.nodes.replace(Replace((dual(1),)))
    world.sync()
    world.has_ipv6 = True
    world.sync()
    assert world.pod_cidrs == {"10.244.1.0/24", "fd00:10:244:1::/64"}
