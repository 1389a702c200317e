"""KubeProxyConfiguration v1alpha1 (kubeproxy.config.k8s.io): the file kube-proxy is configured with, read as it is.

A cluster's existing file goes on working. What it says for another mode than nftables, or what podwire-proxy has no use
for, is named with the reason and otherwise ignored; what cannot be is an error naming field and value.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.durations import Duration, format_duration, parse_duration

API_VERSION: Final = "kubeproxy.config.k8s.io/v1alpha1"
KIND: Final = "KubeProxyConfiguration"
MODES: Final = ("", "nftables", "iptables", "ipvs", "kernelspace")


class _Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class ClientConnection(_Section, frozen=True):
    kubeconfig: str = ""


class Logging(_Section, frozen=True):
    verbosity: int = 2


class Conntrack(_Section, frozen=True):
    """0 leaves the kernel's value alone."""

    max_per_core: int = 32768
    min: int = 131072
    tcp_established_timeout: Duration = Duration(86400)
    tcp_close_wait_timeout: Duration = Duration(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration(0)
    udp_stream_timeout: Duration = Duration(0)


class Nftables(_Section, frozen=True):
    masquerade_all: bool = False


class Iptables(_Section, frozen=True):
    """What of that mode's section podwire-proxy serves too, and kube-proxy's mode nftables does not."""

    localhost_node_ports: bool = True


class DetectLocal(_Section, frozen=True):
    """How this node's own pods are known, for the mode that needs it."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""
    cluster_cidrs: tuple[str, ...] = msgspec.field(default=(), name="clusterCIDRs")


DETECT_LOCAL_MODES: Final = ("", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")


class KubeProxyConfiguration(_Section, frozen=True):
    """The fields that podwire-proxy serves, with kube-proxy's defaults."""

    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    healthz_bind_address: str = "0.0.0.0:10256"
    metrics_bind_address: str = "127.0.0.1:10249"
    bind_address_hard_fail: bool = False
    mode: str = "nftables"
    conntrack: Conntrack = Conntrack()
    iptables: Iptables = Iptables()
    nftables: Nftables = Nftables()
    node_port_addresses: tuple[str, ...] = ()
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    oom_score_adj: int = -999

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """Where all pods are, if that is said."""
        return self.detect_local.cluster_cidrs or tuple(cidr.strip() for cidr in self.cluster_cidr.split(",") if cidr)

    @property
    def healthz_address(self) -> tuple[str, int] | None:
        return bind_address(self.healthz_bind_address, 10256)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        return bind_address(self.metrics_bind_address, 10249)


# By the path of a field or of the section it is in.
_UNUSED: Final[Mapping[str, str]] = {
    "featureGates": "podwire-proxy has none",
    "clientConnection.acceptContentTypes": "the API is read as JSON",
    "clientConnection.contentType": "the API is read as JSON",
    "clientConnection.qps": "what is written to the API is limited by itself",
    "clientConnection.burst": "what is written to the API is limited by itself",
    "logging": "logs are key=value lines on stderr",
    "bindAddress": "the addresses of probes and figures have their own fields",
    "enableProfiling": "there is no profiling",
    "showHiddenMetricsForVersion": "no figure is hidden",
    "iptables": "mode iptables",
    "ipvs": "mode ipvs",
    "winkernel": "mode kernelspace",
    "nftables.masqueradeBit": "packet marks are not used",
    "nftables.syncPeriod": "changes of others are noticed when they happen",
    "nftables.minSyncPeriod": "a round costs what changed, so none has to wait",
    "configSyncPeriod": "collections are watched, and listed again when a watch is lost",
    "portRange": "kube-proxy does not use it either",
    "windowsRunAsService": "there is no service for Windows",
}

# What Linux takes for a name and nft can quote.
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
_UNKNOWN: Final = "podwire-proxy does not know this field: is it spelled right?"


class ConfigurationError(ValueError):
    """A configuration that cannot be meant: the file, the field, its value and what to do."""

    def __init__(self, path: Path | str, field: str, value: object, problem: str) -> None:
        super().__init__(path, field, value, problem)
        self.path = path
        self.field = field
        self.value = value
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.field} {self.value!r}: {self.problem}"
            if self.field
            else f"{self.path}: {self.problem}"
        )


class Ignored(msgspec.Struct, frozen=True):
    """A field of the file that changes nothing, and why."""

    field: str
    reason: str


def parse(text: bytes, path: Path) -> tuple[KubeProxyConfiguration, tuple[Ignored, ...]]:
    """Read the text of a file. Raises ConfigurationError."""
    try:
        said = msgspec.yaml.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(path, "", None, f"is not YAML: {error}") from error
    if not isinstance(said, dict):
        raise ConfigurationError(path, "", None, f"must be an object of kind {KIND}")
    _check_type(said, path)
    given = _without_nulls({key: value for key, value in said.items() if key not in {"apiVersion", "kind"}})
    configuration = build(given, path)
    return configuration, tuple(_ignored(given, configuration))


def build(given: Mapping[str, Any], source: Path | str) -> KubeProxyConfiguration:
    """Make a configuration of the fields that are given, as a file nests them. Raises ConfigurationError."""
    configuration = _converted(given, source)
    _check(configuration, source)
    return configuration


def bind_address(text: str, default_port: int) -> tuple[str, int] | None:
    """The address and port to listen on; None for an empty text. Raises ValueError."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text)), default_port
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ValueError("use ADDRESS:PORT, or nothing to serve none")
    return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)


def to_builtins(configuration: KubeProxyConfiguration) -> dict[str, Any]:
    """The configuration as the object that a file holds."""
    fields = msgspec.to_builtins(configuration, enc_hook=format_duration)
    return {"apiVersion": API_VERSION, "kind": KIND, **fields}


def to_yaml(configuration: KubeProxyConfiguration) -> bytes:
    return msgspec.yaml.encode(to_builtins(configuration))


def _check_type(said: Mapping[str, Any], path: Path) -> None:
    for field, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if said.get(field) != expected:
            raise ConfigurationError(path, field, said.get(field), f"must be {expected}")


def _without_nulls(value: Any) -> Any:
    """As Go reads it: null is the default."""
    if not isinstance(value, dict):
        return value
    return {str(key): _without_nulls(inner) for key, inner in value.items() if inner is not None}


def _converted(given: Any, path: Path | str) -> KubeProxyConfiguration:
    try:
        return msgspec.convert(given, KubeProxyConfiguration, dec_hook=parse_duration)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        field = place.strip("`.")
        raise ConfigurationError(path, field, _at(given, field), problem[:1].lower() + problem[1:]) from error


def _at(given: Any, field: str) -> object:
    for part in field.partition("[")[0].split("."):
        given = given.get(part) if isinstance(given, dict) else given
    return given


def _check(configuration: KubeProxyConfiguration, path: Path | str) -> None:
    if configuration.mode not in MODES:
        raise ConfigurationError(path, "mode", configuration.mode, "must be nftables, or a mode of kube-proxy")
    if not -1000 <= configuration.oom_score_adj <= 1000:
        raise ConfigurationError(path, "oomScoreAdj", configuration.oom_score_adj, "must be between -1000 and 1000")
    if configuration.hostname_override and not configuration.hostname_override.strip():
        raise ConfigurationError(
            path, "hostnameOverride", configuration.hostname_override, "must name this node as its Node object does"
        )
    _check_addresses(configuration, path)
    _check_locality(configuration, path)
    for field in msgspec.structs.fields(Conntrack):
        if (value := getattr(configuration.conntrack, field.name)) < 0:
            name = f"conntrack.{field.encode_name}"
            raise ConfigurationError(path, name, value, "must not be negative; 0 leaves the kernel's value alone")


def _check_addresses(configuration: KubeProxyConfiguration, path: Path | str) -> None:
    for field, text in (
        ("healthzBindAddress", configuration.healthz_bind_address),
        ("metricsBindAddress", configuration.metrics_bind_address),
    ):
        try:
            bind_address(text, 0)
        except ValueError as error:
            raise ConfigurationError(path, field, text, str(error)) from error


def _check_locality(configuration: KubeProxyConfiguration, path: Path | str) -> None:
    local, mode = configuration.detect_local, configuration.detect_local_mode
    if mode not in DETECT_LOCAL_MODES:
        raise ConfigurationError(path, "detectLocalMode", mode, f"must be one of {', '.join(DETECT_LOCAL_MODES[1:])}")
    for needed, field, name in (
        ("BridgeInterface", "detectLocal.bridgeInterface", local.bridge_interface),
        ("InterfaceNamePrefix", "detectLocal.interfaceNamePrefix", local.interface_name_prefix),
    ):
        if mode == needed and not _INTERFACE.fullmatch(name):
            raise ConfigurationError(path, field, name, f"must name an interface: detectLocalMode is {mode}")
    addresses = configuration.node_port_addresses
    networks = [("nodePortAddresses", text) for text in addresses if addresses != ("primary",)]
    networks += [("detectLocal.clusterCIDRs", text) for text in configuration.cluster_cidrs]
    for field, text in networks:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigurationError(path, field, text, "must be a CIDR") from error


def _ignored(given: Mapping[str, Any], configuration: KubeProxyConfiguration) -> Iterator[Ignored]:
    served = frozenset(field for field, _ in _leaves(to_builtins(configuration)))
    for field, value in _leaves(given):
        if field not in served:
            reason = next((why for name, why in _UNUSED.items() if f"{field}.".startswith(f"{name}.")), _UNKNOWN)
            # A file written out by kube-proxy has every field: what says nothing needs no word.
            if value or reason is _UNKNOWN:
                yield Ignored(field, reason)
    if configuration.mode not in {"", "nftables"}:
        yield Ignored("mode", f"{configuration.mode}: podwire-proxy always uses nftables")


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
