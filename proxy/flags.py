"""kube-proxy's flags, as far as podwire-proxy serves what they set: each stands for one field of the configuration.

As with kube-proxy, `--config` stands instead of them: with it, only the node's name and the logs' detail count from the
command line.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import click
import msgspec

from proxy import durations
from proxy.configuration import DETECT_LOCAL_MODES, KubeProxyConfiguration, build

COMMAND_LINE: Final = "the command line"


class DurationType(click.ParamType[str]):
    """Checked here, read by the configuration."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            durations.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return str(value)


class CommaSeparated(click.ParamType[tuple[str, ...]]):
    """Read by the configuration."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        del param, ctx
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class Flag(NamedTuple):
    """A flag, the field it sets as a file spells it, and what is said of it."""

    name: str
    field: str
    help: str
    type: Any = str

    @property
    def parameter(self) -> str:
        """A Python name for the field."""
        return self.field.replace(".", "__")


HOSTNAME_OVERRIDE: Final = Flag(
    "--hostname-override", "hostnameOverride", "This node's name; endpoints with it are local. [default: host name]"
)
VERBOSITY: Final = Flag("-v", "logging.verbosity", "From 4 on, debugging is logged too. [default: 2]", int)
FLAGS: Final = (
    HOSTNAME_OVERRIDE,
    VERBOSITY,
    Flag(
        "--kubeconfig",
        "clientConnection.kubeconfig",
        "How to reach the API server. In a pod: not needed.",
        click.Path(exists=True, dir_okay=False),
    ),
    Flag("--healthz-bind-address", "healthzBindAddress", "For /healthz and /livez. [default: 0.0.0.0:10256]"),
    Flag(
        "--metrics-bind-address", "metricsBindAddress", "For /metrics, /proxyMode, /configz. [default: 127.0.0.1:10249]"
    ),
    Flag(
        "--bind-address-hard-fail",
        "bindAddressHardFail",
        "End when one of these is taken, instead of trying again.",
        bool,
    ),
    Flag("--conntrack-max-per-core", "conntrack.maxPerCore", "Connections to track per core. [default: 32768]", int),
    Flag("--conntrack-min", "conntrack.min", "Connections to track at least. [default: 131072]", int),
    Flag(
        "--conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        "How long an idle TCP connection is remembered. [default: 24h]",
        DurationType(),
    ),
    Flag(
        "--conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        "How long a half-closed TCP connection is remembered. [default: 1h]",
        DurationType(),
    ),
    Flag("--conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", "Take packets outside the TCP window as valid.", bool),
    Flag(
        "--conntrack-udp-timeout",
        "conntrack.udpTimeout",
        "How long an unanswered UDP flow is remembered.",
        DurationType(),
    ),
    Flag(
        "--conntrack-udp-timeout-stream",
        "conntrack.udpStreamTimeout",
        "How long an answered UDP flow is remembered.",
        DurationType(),
    ),
    Flag(
        "--nodeport-addresses",
        "nodePortAddresses",
        "Where node ports are served: CIDRs with commas between them, or primary, the node's own. [default: primary]",
        CommaSeparated(),
    ),
    Flag(
        "--iptables-localhost-nodeports",
        "iptables.localhostNodePorts",
        "Serve node ports at localhost too, for the node itself. [default: true]",
        bool,
    ),
    Flag("--masquerade-all", "nftables.masqueradeAll", "Masquerade everything that is sent to a cluster IP.", bool),
    Flag(
        "--detect-local-mode",
        "detectLocalMode",
        "How this node's own pods are known. [default: NodeCIDR, or ClusterCIDR if that is given]",
        click.Choice(DETECT_LOCAL_MODES[1:]),
    ),
    Flag("--cluster-cidr", "clusterCIDR", "Where all pods are: one CIDR of each family."),
    Flag("--pod-bridge-interface", "detectLocal.bridgeInterface", "For BridgeInterface: the pods' bridge."),
    Flag(
        "--pod-interface-name-prefix",
        "detectLocal.interfaceNamePrefix",
        "For InterfaceNamePrefix: how the pods' interfaces begin.",
    ),
    Flag("--oom-score-adj", "oomScoreAdj", "How ready the kernel is to kill it, from -1000. [default: -999]", int),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command all flags; `configuration` and `over` take what it gets."""
    for flag in reversed(FLAGS):
        command = option(flag)(command)
    return command


def option(flag: Flag) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flag of a click command."""
    # Go's way: --flag, --flag=true and --flag=false.
    as_flag: dict[str, Any] = {"is_flag": False, "flag_value": "true", "metavar": ""} if flag.type is bool else {}
    return click.option(flag.name, flag.parameter, help=flag.help, type=flag.type, **as_flag)


def configuration(values: Mapping[str, Any]) -> KubeProxyConfiguration:
    """The configuration that the given flags make. Raises ConfigurationError."""
    return build(_nested(values), COMMAND_LINE)


def over(file: KubeProxyConfiguration, values: Mapping[str, Any]) -> tuple[KubeProxyConfiguration, tuple[str, ...]]:
    """A file's configuration with the flags that count beside it, and the names of those that do not."""
    given = dict(_given(values))
    beside = (HOSTNAME_OVERRIDE, VERBOSITY)
    said = build(_nested({flag.parameter: values.get(flag.parameter) for flag in beside}), COMMAND_LINE)
    kept = (
        *([("hostname_override", said.hostname_override)] if HOSTNAME_OVERRIDE.field in given else []),
        *([("logging", said.logging)] if VERBOSITY.field in given else []),
    )
    unused = (flag.name for flag in FLAGS if flag.field in given and flag not in beside)
    return msgspec.structs.replace(file, **dict(kept)), tuple(unused)


def _given(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name.replace("__", "."), value) for name, value in values.items() if value is not None)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for field, value in _given(values):
        *sections, last = field.split(".")
        place = whole
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return whole
