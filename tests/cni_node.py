"""A node in memory for the plugin's commands, and the means to kill a call at any of its effects."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cni import dispatch, gate, gate_table, masquerade, port_table
from cni.host import Host, addresses_of
from dataplane.conntrack import Flow
from dataplane.errors import NotFound
from dataplane.netlink.fake import FakeKernel, FakeNetlink
from dataplane.netns import Identity
from dataplane.nft.fake import FakeNft, SetShape
from ipam.leases import Leases

BOOT = "11111111-0000-0000-0000-000000000000"
SUBNET = "10.244.1.0/24"


def netconf(directory: Path, **changes: Any) -> dict[str, Any]:
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": "0.0.0.0/0"}]}
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "podwire", "dataDir": str(directory), "ipam": ipam}
    return {**conf, **changes}


HAIRPIN = SetShape("hairpin", 8)
GATE_SETS = (
    SetShape(gate.GUARDS, 16, verdicts=True),
    SetShape(gate.MACS, 24),
    SetShape(gate.SOURCES, 20),
    SetShape(gate.SOURCES6, 32),
    SetShape(gate.TARGETS6, 32),
    SetShape(gate.FROM, 16),
    SetShape(gate.TO, 16),
)


class FakeFlows:
    """What conntrack remembers."""

    def __init__(self) -> None:
        self.held: list[Flow] = []

    def udp_flows(self, version: int) -> tuple[Flow, ...]:
        return tuple(flow for flow in self.held if flow.destination.version == version)

    def delete(self, flow: Flow) -> bool:
        self.held.remove(flow)
        return True


@dataclass(frozen=True)
class Pod:
    name: str
    netlink: FakeNetlink

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def fd(self) -> int:
        return self.netlink.fd

    @property
    def identity(self) -> Identity:
        return Identity(device=4, inode=self.netlink.fd)


@dataclass
class FakeNode:
    directory: Path
    boot_id: str = BOOT
    pods: dict[str, Pod] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    forwarding: bool = False

    def __post_init__(self) -> None:
        self.kernel = FakeKernel()
        self.netlink = FakeNetlink(self.kernel)
        self.nft = FakeNft(
            masquerade.TABLE, sets=(SetShape("host-ports", 12, 8), SetShape("host-ports-any", 8, 8), HAIRPIN)
        )
        self.gates = FakeNft(gate.TABLE, sets=GATE_SETS, chains=(gate.Check.MAC, gate.Check.SOURCE))
        self.flows = FakeFlows()

    def pod(self, name: str) -> Pod:
        self.pods[f"/run/netns/{name}"] = pod = Pod(name, FakeNetlink(self.kernel))
        return pod

    def vanish(self, pod: Pod) -> None:
        """The pod's namespace ends: its links go, and the path leads nowhere."""
        del self.pods[pod.path]
        for link in pod.netlink.links():
            pod.netlink.delete_link(link.name)

    def host(self) -> Host:
        def open_netns(path: str) -> contextlib.AbstractContextManager[Pod]:
            if path not in self.pods:
                raise NotFound(f"open network namespace {path}")
            return contextlib.nullcontext(self.pods[path])

        def enable_forwarding(version: int) -> None:
            self.forwarding = True

        return Host(
            netlink=self.netlink,
            own_netns=Identity(device=4, inode=self.netlink.fd),
            boot_id=self.boot_id,
            open_netns=open_netns,
            inside=lambda pod: contextlib.nullcontext(self.kernel.namespaces[pod.fd]),
            leases=Leases,
            masquerade=lambda subnets: self.loaded.append("".join(masquerade.render(subnets).values())),
            nft=lambda: contextlib.nullcontext(self.nft),
            gates=lambda: contextlib.nullcontext(self.gates),
            udp_flows=lambda: contextlib.nullcontext(self.flows),
            enable_forwarding=enable_forwarding,
            enable_ipv6=lambda pod, ifname: None,
            addresses_in=lambda _: {pod.identity: addresses_of(pod.netlink) for pod in self.pods.values()},
            close=lambda: None,
        )

    def call(self, command: str, pod: Pod, *, host: Host | None = None, env: dict[str, str] | None = None, **changes):
        """One call; its answer as a dictionary, with the exit code under `exit`."""
        environ = environment(command, pod.name, pod.path) | (env or {})
        reply = dispatch.run(
            environ, json.dumps(netconf(self.directory, **changes)).encode(), lambda: host or self.host()
        )
        return {**(json.loads(reply.stdout) if reply.stdout else {}), "exit": reply.exit_code}

    def leased(self) -> dict[str, str]:
        """container id → address."""
        with Leases(self.directory) as leases:
            return {lease.claim.attachment.container_id: str(lease.address) for lease in leases.of("net")}

    def states(self) -> list[str]:
        with Leases(self.directory) as leases:
            return [lease.state.value for lease in leases.of("net")]

    def ports(self) -> dict[str, str]:
        """Published hostPorts: the element's key in hexadecimal → comment."""
        held = port_table.published(self.nft)
        return {element.key.hex(): element.comment for elements in held.values() for element in elements}

    def gated(self) -> set[str]:
        """The ports that have anything in the gates' table."""
        return {gate.port_of(element) for elements in gate_table.standing(self.gates).values() for element in elements}

    def veths(self) -> list[str]:
        return [link.name for link in self.netlink.links() if link.kind == "veth"]


def environment(command: str, container_id: str, netns: str, ifname: str = "eth0") -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": netns,
        "CNI_IFNAME": ifname,
        "CNI_PATH": "/opt/cni/bin",
    }


class Killed(BaseException):
    """Stands for kill -9 in tests that cannot lose their process."""


class FailPoint:
    """Ends the call at its step number `at`, before one of its effects or after the last; and at every later step as
    well, because a killed process rolls nothing back."""

    def __init__(self, at: int, die: Callable[[], None]) -> None:
        self.at, self.die, self.steps = at, die, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps >= self.at:
            self.die()

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a step before it; what it lends has steps too."""

        def stepped(*args: Any, **options: Any) -> Any:
            self.step()
            result = function(*args, **options)
            return self._lending(result) if isinstance(result, contextlib.AbstractContextManager) else result

        return stepped

    @contextlib.contextmanager
    def _lending(self, lent: contextlib.AbstractContextManager[Any]) -> Iterator["_Stepped"]:
        with lent as target:
            yield _Stepped(target, self)


class _Stepped:
    """Any object, with a step before each of its methods."""

    def __init__(self, target: Any, point: FailPoint) -> None:
        self._target, self._point = target, point

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._point.before(found) if callable(found) else found


def interrupted(host: Host, point: FailPoint) -> Host:
    """The host, with a step before each of its effects: whatever it is given one day to do is one."""
    effects = {each.name: getattr(host, each.name) for each in fields(host)}
    stepped = {name: point.before(effect) for name, effect in effects.items() if callable(effect)}
    return replace(host, netlink=_Stepped(host.netlink, point), **stepped)
