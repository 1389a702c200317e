"""podwire and the reference bridge + host-local under the same configuration, and what each made of the kernel.

States are read with iproute2 and brought to a form in which what the plugins may choose (MACs, the node's end's name)
does not differ.
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni import install
from tests.cni_plugin import PYTHON
from tests.namespaces import Namespace
from tests.waiting import eventually

REFERENCE = Path("/usr/lib/cni")
BRIDGE = "peer0"
# Counters, timers and ids; and the frames' way to the IP hooks, which podwire turns on for its own bridge.
_BRIDGE_OWN = (
    "timer",
    "_id",
    "root_",
    "nf_call_",
    "topology_change",
    "bridge_id",
    "group_addr",
    "fdb_n_learned",
    "fdb_max_learned",
)
_PORT_READ = (
    "hairpin",
    "guard",
    "root_block",
    "fastleave",
    "learning",
    "flood",
    "mcast_flood",
    "isolated",
    "mtu",
    "state",
)

# Said outright, because the two plugins' defaults differ.
PLAIN = {"isGateway": False, "isDefaultGateway": False, "hairpinMode": False, "ipMasq": False}
RANGES = [[{"subnet": "10.244.1.0/24"}]]


@dataclass
class Peer:
    """One of the two, on a node of its own."""

    name: str
    node: Namespace
    executable: Path
    ipam: str
    state: Path
    pods: list[Namespace] = field(default_factory=list)
    make_pod: Callable[[str], Namespace] | None = None

    def pod(self) -> Namespace:
        self.pods.append(self.make_pod("pod"))
        return self.pods[-1]

    def conf(self, version: str = "1.0.0", *, ipam: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        own = {"type": self.ipam, "dataDir": str(self.state)}
        conf = {"cniVersion": version, "name": "net", "type": "bridge", "bridge": BRIDGE, "dataDir": str(self.state)}
        return {**conf, **PLAIN, **options, "ipam": {"ranges": RANGES, **(ipam or {}), **own}}

    def execute(self, command: str, pod: Namespace, conf: dict[str, Any], **variables: str) -> dict[str, Any]:
        """The answer's object, with the exit code; empty of all else when there is no output."""
        environ = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": pod.path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
            **variables,
        }
        argv = self.node.argv(str(self.executable))
        done = subprocess.run(argv, env=environ, input=json.dumps(conf).encode(), capture_output=True, timeout=250)
        return {**(json.loads(done.stdout) if done.stdout else {}), "exit": done.returncode}


def peers(
    directory: Path, make_namespace: Callable[[str], Namespace], *, ipam: str = "podwire-ipam"
) -> tuple[Peer, Peer]:
    """podwire and the reference, each on a fresh node; podwire with its own IPAM or with another."""
    (directory / "reference").mkdir()
    podwire = install.install(directory / "bin", PYTHON, directory / "no-agent.sock")
    return (
        Peer("podwire", make_namespace("node"), podwire, ipam, directory / "podwire", make_pod=make_namespace),
        Peer(
            "reference",
            make_namespace("node"),
            REFERENCE / "bridge",
            "host-local",
            directory / "reference",
            make_pod=make_namespace,
        ),
    )


def ip(namespace: Namespace, *arguments: str) -> list[dict[str, Any]]:
    return [entry for entry in json.loads(namespace.run("ip", "-json", *arguments) or "[]") if entry]


def addresses(namespace: Namespace) -> list[tuple[str, str, int, str]]:
    """Interface, address, prefix length, scope; without loopback and link-local ones."""
    found = [
        (link["ifname"], each["local"], each["prefixlen"], each["scope"])
        for link in ip(namespace, "address")
        for each in link["addr_info"]
        if link["ifname"] != "lo" and each["scope"] != "link"
    ]
    return sorted(found)


def routes(namespace: Namespace) -> list[tuple[Any, ...]]:
    rows = [
        tuple(route.get(key) for key in ("dst", "gateway", "dev", "prefsrc", "scope", "protocol", "metric"))
        for family in ("-4", "-6")
        for route in ip(namespace, family, "route")
        if not route["dst"].startswith(("fe80:", "multicast"))
    ]
    return sorted(rows, key=repr)


def bridge(node: Namespace) -> dict[str, Any]:
    [link] = ip(node, "-detail", "link", "show", BRIDGE)
    options = link["linkinfo"]["info_data"]
    kept = {key: value for key, value in options.items() if not any(part in key for part in _BRIDGE_OWN)}
    return {"mtu": link["mtu"], "up": "UP" in link["flags"], **kept}


def ports(node: Namespace) -> list[dict[str, Any]]:
    """The bridge's ports, once each forwards: the kernel notices a carrier a moment after both ends are up."""

    def settled() -> list[list[dict[str, Any]]]:
        links = json.loads(node.run("bridge", "-detail", "-json", "link") or "[]")
        found = [{key: link.get(key) for key in _PORT_READ} for link in links if link.get("master") == BRIDGE]
        return [found] if {each["state"] for each in found} <= {"forwarding"} else []

    return eventually(settled)[0]


def state(peer: Peer) -> dict[str, Any]:
    """Everything both should agree on."""
    forwarding = peer.node.run("sh", "-c", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding")
    return {
        "bridge": bridge(peer.node),
        "ports": ports(peer.node),
        "node addresses": addresses(peer.node),
        "node routes": routes(peer.node),
        "forwarding": forwarding.split(),
        "pods": [pod_state(pod) for pod in peer.pods],
    }


def pod_state(pod: Namespace) -> dict[str, Any]:
    links = [
        (link["ifname"], link["linkinfo"]["info_kind"], link["mtu"], "UP" in link["flags"])
        for link in ip(pod, "-detail", "link")
        if link["ifname"] != "lo"
    ]
    return {"links": links, "addresses": addresses(pod), "routes": routes(pod)}


def result(peer: Peer, answer: dict[str, Any]) -> dict[str, Any]:
    """An ADD's answer without what the plugins may choose, and without what is empty."""
    shown = {**answer, "interfaces": [_interface(peer, each) for each in answer.get("interfaces", ())]}
    if "ips" in answer:
        gateways = {":" in each["address"]: each.get("gateway") for each in answer["ips"]}
        shown["routes"] = _routed(answer.get("routes") or [], gateways)
    if "ip4" in answer:
        flat = answer["ip4"]
        shown["ip4"] = _full({**flat, "routes": _routed(flat.get("routes") or [], {False: flat.get("gateway")})})
    return _full(shown)


def _routed(routes: list[dict[str, str]], gateways: dict[bool, str | None]) -> list[dict[str, str]]:
    # A route that names no gateway means the address's (spec §5 ADD Success, routes).
    return [{"gw": gateways[":" in route["dst"]], **route} for route in routes]


def _full(value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if each not in ([], {}, None)}


def _interface(peer: Peer, entry: dict[str, Any]) -> tuple[str, str]:
    name = entry["name"] if entry.get("sandbox") or entry["name"] == BRIDGE else "port"
    paths = {pod.path: f"pod {index}" for index, pod in enumerate(peer.pods)}
    place = paths[entry["sandbox"]] if entry.get("sandbox") else "node"
    # The reference's bridge takes another MAC with every port, so its earlier results are out of date.
    assert name == BRIDGE or entry["mac"] == _mac(peer, entry), f"{peer.name}: {entry}"
    return name, place


def _mac(peer: Peer, entry: dict[str, Any]) -> str:
    inside = next((pod for pod in peer.pods if pod.path == entry.get("sandbox")), peer.node)
    [link] = ip(inside, "link", "show", entry["name"])
    return link["address"]
