"""A lab on paper: the names, addresses, folders and commands of its parts, worked out from a name and a node count.

    namespace pw-lab            bridge `underlay` 172.30.0.1/24 ── API server on 172.30.0.1:6443
       │ node1  │ node2  │ node3      one veth to each node
    pw-lab-node1   …             eth0 172.30.0.11/24, default route by 172.30.0.1; agent, proxy and runner run inside

A dual-stack lab has the same in IPv6 beside it: fd00:172:30::1 on the bridge, fd00:172:30::11 on node1.

No link leads from these namespaces to the machine's own network, so labs may use the same addresses side by side. The
API server's process lives in the machine's namespace, where kubectl is typed; its second socket lives on the underlay.
A lab's name has no hyphen: the namespaces of `a` and of `a-b` could not be told apart.
"""

import re
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from ipam import cidrs
from ipam.address import Network
from lab import machine, networks
from lab.errors import OptionError

Runtime = Literal["processes", "containerd"]

DEFAULT_NODES: Final = 3
MAX_NODES: Final = 64
GATEWAY: Final = IPv4Interface("172.30.0.1/24")
GATEWAY6: Final = IPv6Interface("fd00:172:30::1/64")
API_PORT: Final = 6443
_API_PORTS: Final = 4000
UNDERLAY_BRIDGE: Final = "underlay"
UPLINK: Final = "eth0"

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
_FIRST_NODE_HOST: Final = 10
_LONGEST_SOCKET_PATH: Final = 107  # struct sockaddr_un: sun_path[108], with its terminating zero


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One node: its namespace, its addresses on the underlay, and the folder that holds its state."""

    name: str
    namespace: str
    address: IPv4Interface
    directory: Path
    address6: IPv6Interface | None = None  # in a dual-stack lab

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return (self.address.ip, self.address6.ip) if self.address6 else (self.address.ip,)

    @property
    def socket(self) -> Path:
        return self.directory / "cni.sock"

    @property
    def containerd_socket(self) -> Path:
        return self.directory / "ctrd.sock"

    @property
    def containerd_config(self) -> Path:
        return self.directory / "containerd.toml"

    @property
    def pod_logs(self) -> Path:
        return self.directory / "pods"

    @property
    def cni_conf_dir(self) -> Path:
        return self.directory / "cni" / "net.d"

    @property
    def cni_bin_dir(self) -> Path:
        return self.directory / "cni" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One lab. Everything else about it follows from these few values, which `lab.state` keeps in its folder."""

    name: str
    directory: Path
    node_count: int
    api_port: int
    cluster_cidrs: tuple[Network, ...] = (networks.CLUSTER_CIDR,)  # IPv4, and then IPv6 in a dual-stack lab
    service_cidrs: tuple[Network, ...] = (networks.SERVICE_CIDR,)
    runtime: Runtime = "processes"

    @property
    def is_dual_stack(self) -> bool:
        return len(self.cluster_cidrs) > 1

    @property
    def namespace(self) -> str:
        """The underlay's namespace; also how the names of all the lab's namespaces begin."""
        return f"pw-{self.name}"

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        return tuple(self._node(number) for number in range(1, self.node_count + 1))

    def _node(self, number: int) -> NodePlan:
        name = f"node{number}"
        address = IPv4Interface((networks.UNDERLAY[_FIRST_NODE_HOST + number], networks.UNDERLAY.prefixlen))
        return NodePlan(
            name=name,
            namespace=f"{self.namespace}-{name}",
            address=address,
            address6=self._address6(number) if self.is_dual_stack else None,
            directory=self.directory / "nodes" / name,
        )

    def _address6(self, number: int) -> IPv6Interface:
        """The digits of the node's IPv4 address, read as hexadecimal: both look alike."""
        return IPv6Interface(
            (networks.UNDERLAY6[int(str(_FIRST_NODE_HOST + number), 16)], networks.UNDERLAY6.prefixlen)
        )

    @property
    def kubeconfig(self) -> Path:
        """For people: the API server on 127.0.0.1."""
        return self.directory / "kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        """For what runs on the nodes: the API server on the underlay."""
        return self.directory / "kubeconfig-nodes"

    @property
    def api_directory(self) -> Path:
        return self.directory / "api"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def images(self) -> Path:
        """For the nodes' container runtimes."""
        return self.directory / "images.tar"

    def cgroup(self, node: NodePlan) -> PurePosixPath:
        """Where a node's containers are accounted for."""
        return PurePosixPath("/", self.namespace, node.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket opened in a namespace before the program starts; the program finds it as descriptor 3."""

    namespace: str
    address: IPv4Address
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One supervised process. It starts only when the file it `needs` is there."""

    name: str
    argv: tuple[str, ...]
    log: Path
    namespace: str | None = None
    needs: Path | None = None
    listener: Listener | None = None

    @property
    def file_name(self) -> str:
        return self.name.replace("/", "-")


def components(lab: Lab, python: str) -> tuple[Component, ...]:
    """Return every process the lab consists of: the API server, and an agent, a proxy and a runner per node, with its
    containerd if pods are to be containers.
    """
    parts = [_api_server(lab, python)]
    for node in lab.nodes:
        parts += [_agent(lab, node, python), _proxy(lab, node, python)]
        parts += _with_containers(lab, node, python) if lab.runtime == "containerd" else [_runner(lab, node, python)]
    return tuple(parts)


def _program(python: str, module: str, **flags: object) -> tuple[str, ...]:
    options = (part for flag, value in flags.items() for part in (f"--{flag.replace('_', '-')}", str(value)))
    return (python, "-I", "-m", module, *options)


def _api_server(lab: Lab, python: str) -> Component:
    argv = _program(
        python,
        "api",
        data_dir=lab.api_directory,
        cluster_cidr=cidrs.spell(lab.cluster_cidrs),
        service_cidr=cidrs.spell(lab.service_cidrs),
        listen=f"127.0.0.1:{lab.api_port}",
    )
    return Component(
        name="api",
        argv=(*argv, "--listen", "fd:3"),
        log=lab.logs / "api.log",
        listener=Listener(namespace=lab.namespace, address=GATEWAY.ip, port=API_PORT),
    )


def _on_node(lab: Lab, node: NodePlan, role: str, argv: tuple[str, ...]) -> Component:
    return Component(
        name=f"{node.name}/{role}",
        argv=argv,
        log=lab.logs / f"{node.name}-{role}.log",
        namespace=node.namespace,
        needs=lab.node_kubeconfig,
    )


def _agent(lab: Lab, node: NodePlan, python: str) -> Component:
    argv = _program(
        python,
        "node",
        kubeconfig=lab.node_kubeconfig,
        node_name=node.name,
        state_dir=node.directory / "state",
        socket=node.socket,
        cni_conf_dir=node.cni_conf_dir,
        cni_bin_dir=node.cni_bin_dir,
    )
    return _on_node(lab, node, "agent", argv)


def _proxy(lab: Lab, node: NodePlan, python: str) -> Component:
    argv = _program(python, "proxy", kubeconfig=lab.node_kubeconfig, hostname_override=node.name)
    return _on_node(lab, node, "proxy", argv)


def _runner(lab: Lab, node: NodePlan, python: str) -> Component:
    argv = _program(
        python,
        "lab.runner",
        kubeconfig=lab.node_kubeconfig,
        node_name=node.name,
        node_ip=",".join(map(str, node.addresses)),
        state_dir=node.directory / "pods",
        netns_prefix=node.namespace,
        cni_conf_dir=node.cni_conf_dir,
        cni_bin_dir=node.cni_bin_dir,
    )
    return _on_node(lab, node, "runner", argv)


def _with_containers(lab: Lab, node: NodePlan, python: str) -> list[Component]:
    home = _on_node(lab, node, "machine", machine.argv())
    daemon = ("containerd", "--config", str(node.containerd_config))
    inside = (python, "-I", "-m", "lab.node_machine", str(lab.directory), node.name)
    containerd = _on_node(lab, node, "containerd", (*inside, *daemon))
    argv = _program(
        python,
        "pods",
        kubeconfig=lab.node_kubeconfig,
        node_name=node.name,
        node_ip=",".join(map(str, node.addresses)),
        runtime_endpoint=f"unix://{node.containerd_socket}",
        log_dir=node.pod_logs,
        cgroup_parent=lab.cgroup(node),
    )
    return [home, containerd, _on_node(lab, node, "runner", (*argv, "--no-pull"))]


def first_api_port(directory: Path) -> int:
    """Where to look for a free port on the host: labs that are made at the same moment must not find the same one."""
    return API_PORT + zlib.crc32(str(directory).encode()) % _API_PORTS


def validate_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise OptionError("--name", name, "use 1 to 12 lower-case letters and digits, a letter first")
    return name


def validate(lab: Lab) -> Lab:
    """Return the lab when it can exist; raise OptionError naming the option that says it cannot."""
    validate_name(lab.name)
    if not 1 <= lab.node_count <= MAX_NODES:
        raise OptionError("--nodes", lab.node_count, f"a lab has 1 to {MAX_NODES} nodes")
    networks.validate(lab.cluster_cidrs, lab.service_cidrs, lab.node_count)
    node = lab.nodes[-1]
    # Beside its socket containerd makes another one.
    longest = f"{node.containerd_socket}.ttrpc" if lab.runtime == "containerd" else str(node.socket)
    if len(longest) > _LONGEST_SOCKET_PATH:
        raise OptionError(
            "--state-root",
            lab.directory.parent,
            f"the socket {longest} would have {len(longest)} characters, the kernel allows {_LONGEST_SOCKET_PATH}: "
            "choose a shorter folder",
        )
    return lab
