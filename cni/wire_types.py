"""The configuration's shape on the wire, with the specification's spelling and this plugin's defaults."""

from typing import Annotated, Any, Final

import msgspec

from ipam.lease import COOLDOWN_SECONDS


class Range(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    subnet: str
    range_start: str | None = None
    range_end: str | None = None
    gateway: str | None = None
    exclude: list[str] = []


Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    dst: str
    gw: str | None = None
    mtu: Number | None = None
    advmss: Number | None = None
    priority: Number | None = None
    table: Number | None = None
    scope: Number | None = None


class Ipam(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of podwire's own IPAM; another plugin's configuration is its own business.

    `subnet` and what follows it are host-local's older way to say a single range.
    """

    type: str
    ranges: list[list[Range]] = []
    routes: list[Route] = []
    cooldown_seconds: float = COOLDOWN_SECONDS
    subnet: str | None = None
    range_start: str | None = None
    range_end: str | None = None
    gateway: str | None = None
    resolv_conf: str | None = None  # read by the stand-alone IPAM plugin only

    @property
    def inline(self) -> Range | None:
        if self.subnet is None:
            return None
        return Range(subnet=self.subnet, range_start=self.range_start, range_end=self.range_end, gateway=self.gateway)


class PreviousInterface(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    mac: str = ""
    sandbox: str = ""


class PreviousAddress(msgspec.Struct, frozen=True, kw_only=True):
    address: str
    interface: int | None = None
    gateway: str | None = None


class PreviousResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the plugins before this one, or an earlier ADD, made. Null stands for an empty list in some runtimes."""

    interfaces: list[PreviousInterface] | None = None
    ips: list[PreviousAddress] | None = None
    routes: list[Route] | None = None
    dns: dict[str, Any] | None = None


class PortMapping(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    host_port: int = 0
    container_port: int = 0
    protocol: str = "tcp"
    host_ip: str = msgspec.field(name="hostIP", default="")


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ingress_rate: Annotated[int, msgspec.Meta(ge=0)] = 0
    ingress_burst: Annotated[int, msgspec.Meta(ge=0)] = 0
    egress_rate: Annotated[int, msgspec.Meta(ge=0)] = 0
    egress_burst: Annotated[int, msgspec.Meta(ge=0)] = 0


class Runtime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """runtimeConfig: what the runtime asks for this attachment, where the configuration declares the capability."""

    ips: list[str] | None = None
    ip_ranges: list[list[Range]] | None = None
    port_mappings: list[PortMapping] | None = None
    bandwidth: Bandwidth | None = None
    mac: str | None = None
    aliases: list[str] | dict[str, list[str]] | None = None  # podman 4 gives those of every network, by its name
    dns: dict[str, Any] | None = None


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """args.cni; its other keys are for other plugins."""

    ips: list[str] | None = None
    mac: str | None = None


class Args(msgspec.Struct, frozen=True, kw_only=True):
    cni: Labels | None = None


class ValidAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """One that a GC shall keep."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


DEFAULT_BRIDGE = "podwire0"


class NetConf(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    ipam: Ipam
    bridge: str = DEFAULT_BRIDGE
    mtu: int = 1500
    is_gateway: bool = True
    is_default_gateway: bool = True
    ip_masq: bool = False
    hairpin_mode: bool = True
    macspoofchk: bool = False
    source_check: bool = False
    dns: dict[str, Any] = {}
    prev_result: PreviousResult | None = None
    runtime_config: Runtime | None = None
    args: Args | None = None


# Described at import: threads whose first use of a type is the same moment would crash the process (kube.objects).
DECODERS: Final = tuple(msgspec.json.Decoder(kind) for kind in (NetConf, PreviousResult, ValidAttachment))
