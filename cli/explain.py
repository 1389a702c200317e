"""`podwire explain`: what podwire-proxy does with a packet, and why; and whether the kernel does the same."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cli import packet_names
from cli.cluster_objects import ClusterObjects
from cli.live_table import FAMILIES, LiveTable, compare
from cli.packet_names import UnknownName
from dataplane.errors import DataplaneError
from kube.connection import Connection, ConnectionConfigError, from_kubeconfig, in_cluster
from kube.errors import ApiError, Unreachable
from kube.events import Garbled
from kube.http import Client
from kube.resources import InvalidPathSegment
from proxy import flags, here
from proxy.configuration import ConfigurationError, KubeProxyConfiguration, parse
from proxy.ruleset import Ruleset
from proxy.tracing import explanation, words
from proxy.tracing.desired import Desired, desired
from proxy.tracing.explanation import Explanation
from proxy.tracing.packet import Packet
from proxy.tracing.parsing import NotUnderstood
from proxy.tracing.table import DeadEnd

# What of the proxy's own flags decides about packets.
_PROXY_FLAGS: Final = frozenset(
    {
        "--kubeconfig",
        "--nodeport-addresses",
        "--iptables-localhost-nodeports",
        "--masquerade-all",
        "--detect-local-mode",
        "--cluster-cidr",
        "--pod-bridge-interface",
        "--pod-interface-name-prefix",
    }
)
_FAILURES: Final = (
    ApiError,
    ConfigurationError,
    ConnectionConfigError,
    DataplaneError,
    DeadEnd,
    Garbled,
    InvalidPathSegment,
    NotUnderstood,
    UnknownName,
    Unreachable,
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of the packet."""

    source: str
    destination: str
    namespace: str
    node: str
    interface: str
    live: bool


def _proxy_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed([flag for flag in flags.FLAGS if flag.name in _PROXY_FLAGS]):
        command = flags.option(flag)(command)
    return command


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("-n", "--namespace", default="default", show_default=True, help="Where pods and Services are looked for.")
@click.option("--node", default="", help="On which node.  [default: where SOURCE is, else this machine's host name]")
@click.option("--interface", default="", help="By which interface of the node it comes in, if rules ask for that.")
@click.option("--live", is_flag=True, help="Compare with the kernel's table here; to be run on the node, as root.")
@click.option("--rules", "is_long", is_flag=True, help="Tell each rule of the table that applied.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The KubeProxyConfiguration the proxy runs with; else the flags below, as the proxy has them.",
)
@_proxy_flags
def explain(*, config: Path | None, is_long: bool, is_json: bool, **values: Any) -> None:
    """Tell what podwire-proxy does with a connection from SOURCE to DESTINATION, and why.

    SOURCE is an address, a pod ([NAMESPACE/]POD), or `node` for the node itself. DESTINATION is ADDRESS:PORT or
    [NAMESPACE/]SERVICE:PORT, with /udp, /sctp or /icmp after it where it is not TCP.

    It works out what should happen from the API alone, by the proxy's own code and rules.
    """
    asked = msgspec.convert({name: values.pop(name) for name in Asked.__struct_fields__}, Asked)
    with _failures_shown():
        configuration = _configuration(config, values)
        cluster = ClusterObjects(Client(_connection(configuration), "podwire-explain"))
        wanted, packet = _wanted(cluster, configuration, asked)
        found = explanation.explain(wanted, packet)
        live_table = compare(wanted, packet) if asked.live else None
    remarks = [*cluster.unreadable, *(str(error) for error in wanted.not_served.values())]
    if wanted.here.node not in cluster.nodes:
        remarks.append(f"Node {wanted.here.node!r} is not in the cluster, nor are its pods and node ports; see --node")
    if is_json:
        _print_json(found, live_table, remarks)
    else:
        _print(found, live_table, remarks, is_long=is_long)


def _wanted(cluster: ClusterObjects, configuration: KubeProxyConfiguration, asked: Asked) -> tuple[Desired, Packet]:
    """The table as it should be on the node asked for, and the packet as it comes there."""
    place = asked.node or socket.gethostname().strip().lower()
    sender = packet_names.source(asked.source, cluster, namespace=asked.namespace, node=place)
    target = packet_names.destination(asked.destination, cluster, namespace=asked.namespace)
    ends = packet_names.ends(sender, target)
    node, (family, table_family) = asked.node or sender.node or place, FAMILIES[ends.version]
    seen = here.look(here.settings(configuration, node), cluster.nodes.get(node), cluster.service_cidrs, family)
    wanted = desired(cluster, seen, Ruleset(table_family), family)
    return wanted, packet_names.packet(ends, sender, seen, interface=asked.interface)


def _configuration(path: Path | None, values: Mapping[str, Any]) -> KubeProxyConfiguration:
    if path is None:
        return flags.configuration(values)
    configuration, _ = parse(path.read_bytes(), path)
    return configuration


def _connection(configuration: KubeProxyConfiguration) -> Connection:
    """As kubectl finds it; last, as a pod does."""
    said = configuration.client_connection.kubeconfig or os.environ.get("KUBECONFIG", "").split(":")[0]
    usual = Path.home() / ".kube" / "config"
    if said or usual.exists():
        return from_kubeconfig(said or usual)
    return in_cluster()


def _print(found: Explanation, live: LiveTable | None, remarks: Sequence[str], *, is_long: bool) -> None:
    for line in words.lines(found, is_long=is_long):
        click.echo(line)
    for remark in remarks:
        click.echo(f"  {'Left out':<10} {remark}")
    if live is None:
        return
    if live.explanation is not None:
        click.echo(f"\nThe kernel's table: {words.result(live.explanation)}")
        for line in words.lines(live.explanation, is_long=is_long) if live.explanation != found else ():
            click.echo(line)
    click.echo("Not as it should be:" if live.drifts else "The table is as it should be.")
    for line in words.drift_lines(live.drifts):
        click.echo(line)


def _print_json(found: Explanation, live: LiveTable | None, remarks: Sequence[str]) -> None:
    told: dict[str, Any] = {**words.to_builtins(found), "leftOut": list(remarks)}
    if live is not None:
        explained = words.to_builtins(live.explanation) if live.explanation else None
        told["live"] = {"explanation": explained, "drift": words.drifts_to_builtins(live.drifts)}
    click.echo(json.dumps(told, indent=2))


@contextlib.contextmanager
def _failures_shown() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'the kernel'}: {error.strerror}") from error
