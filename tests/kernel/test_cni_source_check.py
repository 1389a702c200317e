"""What a pod may put on the bridge: frames really sent, with and without the checks.

Address plan: pods of 10.244.1.0/24 and fd00:244:1::/64; the sender under test, and the victim whose names it takes.
A frame is known to be dropped when a permitted one, sent after it through the same port, arrives without it.
"""

import contextlib
import json
import os
import secrets
import socket
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from cni import gate
from tests.cni_plugin import PluginNode
from tests.namespaces import Namespace, namespace
from tests.waiting import eventually_equal

DUAL = {
    "type": "podwire-ipam",
    "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}
MODES = {"unchecked": {}, "mac": {"macspoofchk": True}, "source": {"sourceCheck": True}}
ETH_P_ALL = 3


@dataclass(frozen=True)
class Pod:
    namespace: Namespace
    mac: str
    ip: str
    ip6: str

    @property
    def link_local(self) -> str:
        return str(gate.link_local(self.mac))

    def open(self) -> socket.socket:
        """Sees and sends whole frames on the pod's interface."""

        def run() -> socket.socket:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            opened.bind(("eth0", 0))
            opened.settimeout(30)
            return opened

        return self.namespace.call(run)


def added(node: PluginNode, pod: Namespace, **changes) -> Pod:
    answer = node.call("ADD", pod, ipam=DUAL, **changes)
    assert answer["exit"] == 0, answer
    ip, ip6 = (given["address"].partition("/")[0] for given in answer["ips"])
    return Pod(pod, answer["interfaces"][-1]["mac"], ip, ip6)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One sender for each mode, and the victim."""
    with contextlib.ExitStack() as stack:
        node = PluginNode(stack.enter_context(namespace("node")), tmp_path_factory.mktemp("node"))
        pods = {name: added(node, stack.enter_context(namespace("pod")), **conf) for name, conf in MODES.items()}
        pods |= {"victim": added(node, stack.enter_context(namespace("pod")))}
        await_forwarding(node.namespace)
        yield pods


def await_forwarding(node: Namespace) -> None:
    """The kernel notices a carrier a moment after both ends are up, and nobody sends a test's frame again."""

    def states() -> set[str]:
        return {port["state"] for port in json.loads(node.run("bridge", "-json", "link"))}

    eventually_equal(states, {"forwarding"})


def passes(sender: Pod, victim: Pod, frame: Packet) -> bool:
    mark = secrets.token_bytes(16)
    permitted = Ether(src=sender.mac, dst=victim.mac) / IP(src=sender.ip, dst=victim.ip) / UDP(dport=9) / Raw(mark)
    whole = bytes(frame)
    # The kernel takes a VLAN's tag off before it shows the frame.
    shown = whole[:12] + whole[16:] if Dot1Q in frame else whole
    with sender.open() as out, victim.open() as seen:
        with on_one_processor():
            out.send(whole)
            out.send(bytes(permitted))
        found = False
        while mark not in (got := seen.recv(65536)):
            found = found or got.startswith(shown[:60])
    return found


@contextlib.contextmanager
def on_one_processor():
    """What one processor sends arrives in order; a frame of another one may overtake it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def own(me: Pod, other: Pod) -> Ether:
    return Ether(src=me.mac, dst=other.mac)


def stolen(me: Pod, other: Pod) -> Ether:
    return Ether(src=other.mac[:-2] + "99", dst=other.mac)


TEXT = Raw(b"podwire" * 10)
ALL_NODES = "ff02::1"

# frame from (sender, victim); whether it passes a port that checks the MAC alone, and one that checks the source
HONEST = {
    "its own IPv4 address": lambda me, it: own(me, it) / IP(src=me.ip, dst=it.ip) / UDP() / TEXT,
    "its own IPv6 address": lambda me, it: own(me, it) / IPv6(src=me.ip6, dst=it.ip6) / UDP() / TEXT,
    "its link-local address": lambda me, it: own(me, it) / IPv6(src=me.link_local, dst=it.ip6) / UDP() / TEXT,
    "an ARP request": lambda me, it: own(me, it) / ARP(hwsrc=me.mac, psrc=me.ip, pdst=it.ip) / TEXT,
    "an ARP announcement": lambda me, it: own(me, it) / ARP(op=2, hwsrc=me.mac, psrc=me.ip, pdst=me.ip) / TEXT,
    "an ARP probe": lambda me, it: own(me, it) / ARP(hwsrc=me.mac, psrc="0.0.0.0", pdst=it.ip) / TEXT,
    "a neighbour solicitation": lambda me, it: own(me, it) / IPv6(src=me.ip6, dst=it.ip6) / ICMPv6ND_NS(tgt=it.ip6),
    "a neighbour advertisement": lambda me, it: own(me, it) / IPv6(src=me.ip6, dst=ALL_NODES) / ICMPv6ND_NA(tgt=me.ip6),
    "asking whether its address is free": lambda me, it: (
        own(me, it) / IPv6(src="::", dst="ff02::1:ff00:2") / ICMPv6ND_NS(tgt=me.link_local)
    ),
    "joining a group without an address": lambda me, it: (
        own(me, it) / IPv6(src="::", dst="ff02::16") / ICMPv6MLReport2()
    ),
}
LYING_BY_ADDRESS = {
    "another's IPv4 address": lambda me, it: own(me, it) / IP(src=it.ip, dst=it.ip) / UDP() / TEXT,
    "a fragment of another's": lambda me, it: own(me, it) / IP(src="10.244.1.99", dst=it.ip, frag=100) / TEXT,
    "an outside IPv4 address": lambda me, it: own(me, it) / IP(src="192.0.2.1", dst=it.ip) / UDP() / TEXT,
    "the gateway's IPv4 address": lambda me, it: own(me, it) / IP(src="10.244.1.1", dst=it.ip) / UDP() / TEXT,
    "another's IPv6 address": lambda me, it: own(me, it) / IPv6(src=it.ip6, dst=it.ip6) / UDP() / TEXT,
    "another's link-local address": lambda me, it: own(me, it) / IPv6(src=it.link_local, dst=it.ip6) / UDP() / TEXT,
    "no IPv6 address": lambda me, it: own(me, it) / IPv6(src="::", dst=it.ip6) / UDP() / TEXT,
    "an ARP answer for the gateway": lambda me, it: (
        own(me, it) / ARP(op=2, hwsrc=me.mac, psrc="10.244.1.1", pdst=it.ip) / TEXT
    ),
    "an ARP request as another": lambda me, it: own(me, it) / ARP(hwsrc=me.mac, psrc="10.244.1.77", pdst=it.ip) / TEXT,
    "an ARP answer without an address": lambda me, it: (
        own(me, it) / ARP(op=2, hwsrc=me.mac, psrc="0.0.0.0", pdst=it.ip) / TEXT
    ),
    "an ARP answer with another's MAC inside": lambda me, it: (
        own(me, it) / ARP(op=2, hwsrc="0a:58:0a:f4:01:77", psrc=me.ip, pdst=it.ip) / TEXT
    ),
    "a neighbour advertisement for another": lambda me, it: (
        own(me, it)
        / IPv6(src=me.ip6, dst=it.ip6)
        / ICMPv6ND_NA(tgt="fd00:244:1::1")
        / ICMPv6NDOptDstLLAddr(lladdr=me.mac)
    ),
    "the same behind an extension header": lambda me, it: (
        own(me, it) / IPv6(src=me.ip6, dst=it.ip6) / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(tgt="fd00:244:1::1")
    ),
    "asking whether another's address is free": lambda me, it: (
        own(me, it) / IPv6(src="::", dst="ff02::1:ff00:2") / ICMPv6ND_NS(tgt=it.ip6)
    ),
    "a router advertisement": lambda me, it: own(me, it) / IPv6(src=me.link_local, dst=ALL_NODES) / ICMPv6ND_RA(),
    "a redirect": lambda me, it: own(me, it) / IPv6(src=me.link_local, dst=it.ip6) / ICMPv6ND_Redirect(),
    "a frame in a VLAN": lambda me, it: own(me, it) / Dot1Q(vlan=5) / IP(src=it.ip, dst=it.ip) / UDP() / TEXT,
    "a frame of an unknown kind": lambda me, it: own(me, it) / Raw(b"x" * 60),
}
LYING_BY_MAC = {
    "another MAC": lambda me, it: stolen(me, it) / IP(src=me.ip, dst=it.ip) / UDP() / TEXT,
    "another MAC, IPv6": lambda me, it: stolen(me, it) / IPv6(src=me.ip6, dst=it.ip6) / UDP() / TEXT,
    "another MAC, ARP": lambda me, it: stolen(me, it) / ARP(hwsrc=me.mac, psrc=me.ip, pdst=it.ip) / TEXT,
}


@pytest.mark.parametrize("frame", [*HONEST, *LYING_BY_ADDRESS, *LYING_BY_MAC])
def test_without_a_check_everything_passes(place, frame):
    build = (HONEST | LYING_BY_ADDRESS | LYING_BY_MAC)[frame]
    assert passes(place["unchecked"], place["victim"], build(place["unchecked"], place["victim"]))


@pytest.mark.parametrize("frame", [*HONEST, *LYING_BY_ADDRESS])
def test_check_of_the_mac_lets_every_frame_from_its_own_mac_pass(place, frame):
    build = (HONEST | LYING_BY_ADDRESS)[frame]
    assert passes(place["mac"], place["victim"], build(place["mac"], place["victim"]))


@pytest.mark.parametrize("mode", ["mac", "source"])
@pytest.mark.parametrize("frame", LYING_BY_MAC)
def test_no_check_lets_a_foreign_mac_pass(place, mode, frame):
    assert not passes(place[mode], place["victim"], LYING_BY_MAC[frame](place[mode], place["victim"]))


@pytest.mark.parametrize("frame", HONEST)
def test_check_of_the_source_lets_a_pod_speak_for_itself(place, frame):
    assert passes(place["source"], place["victim"], HONEST[frame](place["source"], place["victim"]))


@pytest.mark.parametrize("frame", LYING_BY_ADDRESS)
def test_check_of_the_source_lets_nobody_speak_for_another(place, frame):
    assert not passes(place["source"], place["victim"], LYING_BY_ADDRESS[frame](place["source"], place["victim"]))
