"""A pod's gate from ADD to DEL in the kernel: what is checked beside the reference bridge, and what limits let through."""

import socket
import threading
import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.cni_peers import Peer, peers
from tests.cni_plugin import PluginNode
from tests.kernel.test_cni_source_check import TEXT, Pod, await_forwarding, passes
from tests.waiting import eventually

MBIT = 1_000_000
LIMIT = 80 * MBIT
BURST = MBIT
TRANSFER = 25_000_000  # bytes: the first 10 MB are saved up, the rest takes a second and a half
GATED = {
    "sourceCheck": True,
    "runtimeConfig": {"bandwidth": {"ingressRate": LIMIT, "ingressBurst": BURST}},
}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


def gates(node: PluginNode) -> str:
    return node.namespace.run("nft", "list", "table", "bridge", "podwire-cni", check=False)


def previous(answer) -> dict:
    return {key: value for key, value in answer.items() if key != "exit"}


def wired(peer: Peer, **options) -> Pod:
    pod = peer.pod()
    answer = peer.execute("ADD", pod, peer.conf(**options))
    assert answer["exit"] == 0, answer
    own = next(each for each in answer["interfaces"] if each.get("sandbox"))
    return Pod(pod, own["mac"], answer["ips"][0]["address"].partition("/")[0], "")


@pytest.mark.parametrize("which", [0, 1], ids=["podwire", "reference"])
def test_check_of_the_mac_is_the_reference_plugins(which, tmp_path, make_namespace):
    peer = peers(tmp_path, make_namespace)[which]
    sender, victim = wired(peer, macspoofchk=True), wired(peer)
    await_forwarding(peer.node)
    honest, foreign = (Ether(src=mac, dst=victim.mac) for mac in (sender.mac, "02:00:00:00:00:99"))
    packet = IP(src="10.244.1.99", dst=victim.ip) / UDP() / TEXT
    assert (passes(sender, victim, honest / packet), passes(sender, victim, foreign / packet)) == (True, False)


def test_gate_is_sound_after_add_and_gone_after_del(node, make_namespace):
    pod = make_namespace("pod")
    answer = node.call("ADD", pod, **GATED)
    veth = answer["interfaces"][1]["name"]
    assert veth in gates(node)
    assert node.call("CHECK", pod, prevResult=previous(answer), **GATED) == {"exit": 0}
    assert node.call("DEL", pod) == {"exit": 0}
    assert veth not in gates(node)


def test_table_loads_back_as_it_is_listed(node, make_namespace):
    node.call("ADD", make_namespace("pod"), **GATED)
    node.namespace.run("nft", "--check", "--file", "-", stdin=gates(node))


@pytest.mark.parametrize(
    "damage",
    [("flush", "ruleset"), ("flush", "chain", "bridge", "podwire-cni", "check-arp"), ("flush", "set", "bridge", "podwire-cni", "macs")],
    ids=["table", "rules", "elements"],
)  # fmt: skip
def test_check_notices_a_gate_that_somebody_broke(node, make_namespace, damage):
    pod = make_namespace("pod")
    answer = node.call("ADD", pod, **GATED)
    node.namespace.run("nft", *damage)
    assert node.call("CHECK", pod, prevResult=previous(answer), **GATED)["code"] == 102


def test_next_add_restores_rules_that_somebody_removed(node, make_namespace):
    node.call("ADD", make_namespace("pod"), **GATED)
    node.namespace.run("nft", "flush", "ruleset")
    node.call("ADD", make_namespace("pod"), **GATED)
    assert "check-arp" in gates(node)


def seconds(sender, receiver, address: str) -> float:
    """How long a TCP transfer takes."""
    started = time.monotonic()
    with receiver.call(lambda: socket.create_server(("", 7001))) as listener:
        listener.settimeout(30)

        def send() -> None:
            with sender.call(lambda: socket.create_connection((address, 7001), timeout=60)) as out:
                out.sendall(bytes(TRANSFER))

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            while connection.recv(1 << 20):
                pass
        thread.join()
    return time.monotonic() - started


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_transfer_takes_as_long_as_the_limit_says_in_its_direction_only(node, make_namespace, direction):
    pod = make_namespace("pod")
    limits = {f"{direction}Rate": LIMIT, f"{direction}Burst": BURST}
    answer = node.call("ADD", pod, runtimeConfig={"bandwidth": limits})
    own = answer["ips"][0]["address"].partition("/")[0]
    transfers = {
        "ingress": lambda: seconds(node.namespace, pod, own),
        "egress": lambda: seconds(pod, node.namespace, "10.244.1.1"),
    }
    limited = transfers.pop(direction)
    [free] = transfers.values()
    least = (TRANSFER - (LIMIT + BURST) / 8) / (LIMIT / 8)
    assert limited() > 0.9 * least
    # A busy machine may take as long without a limit; with one, no attempt could be so quick.
    eventually(lambda: free() < least / 2)
