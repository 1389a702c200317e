"""podwire-node: the process around the agent. Flags in, SIGTERM out; logs go to stderr as key=value."""

import ipaddress
import logging
import re
import socket
import sys
from pathlib import Path

import click
import structlog

from cni import service
from cni.host import linux_host, loaded_texts
from cni.loaded_texts import LoadedTexts
from dataplane import bridge_netfilter
from dataplane.errors import DataplaneError
from dataplane.netlink.monitor import Monitor
from dataplane.netlink.objects import Address
from dataplane.nft.linux import LinuxNft
from kube.connection import Connection, ConnectionConfigError, from_kubeconfig, in_cluster
from kube.http import Client
from kube.termination import Termination
from node import machine, masquerade
from node.agent import Agent, Settings
from node.cni_service import CniService, Exchange, SocketTaken
from node.pod_network import Paths
from node.registration import Identity
from node.upkeep import Doors

log = structlog.get_logger(__name__)

# RFC 1123 subdomain, as the API requires of a Node's name.
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


def _node_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > 253 or not _NODE_NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r}: use lower-case letters, digits, '-' and '.', at most 253 characters")
    return value


def _node_ips(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[Address, ...]:
    addresses = tuple(_reachable(text.strip()) for text in value.split(",")) if value is not None else ()
    if len({address.version for address in addresses}) < len(addresses):
        raise click.BadParameter(f"{value!r}: one address of each family is enough")
    return addresses


def _reachable(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an IP address") from None
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        raise click.BadParameter(f"{text!r}: other nodes cannot reach this one by it")
    return address


@click.command(context_settings={"show_default": True})
@click.version_option(package_name="podwire")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="In a pod: not needed."
)
@click.option(
    "--node-name", default=lambda: socket.gethostname().lower(), show_default="host name", callback=_node_name
)
@click.option(
    "--node-ip",
    "node_ips",
    metavar="ADDRESS[,ADDRESS]",
    callback=_node_ips,
    help="One of each family; by default the source address of packets to the API server, and one beside it.",
)
@click.option("--state-dir", type=_DIRECTORY, default=Path("/var/lib/podwire/node"))
@click.option("--socket", type=click.Path(path_type=Path), default=Path("/run/podwire/cni.sock"))
@click.option("--cni-conf-dir", type=_DIRECTORY, default=Path("/etc/cni/net.d"))
@click.option("--cni-bin-dir", type=_DIRECTORY, default=Path("/opt/cni/bin"))
def main(
    kubeconfig: Path | None,
    node_name: str,
    *,
    node_ips: tuple[Address, ...],
    **places: Path,
) -> None:
    """Connect this node's pods to the cluster: routes, masquerading, and the CNI plugin's warm half."""
    _configure_logging()
    paths = Paths(
        conf_dir=places["cni_conf_dir"].absolute(),
        bin_dir=places["cni_bin_dir"].absolute(),
        leases=places["state_dir"].absolute() / "cni",
        socket=places["socket"].absolute(),
        python=Path(sys.executable),
    )
    identity = Identity(name=node_name, labels=machine.labels(), machine=machine.node_info())
    _run(_connection(kubeconfig), Settings(identity=identity, node_ips=node_ips, paths=paths))


def _connection(kubeconfig: Path | None) -> Connection:
    try:
        connection = from_kubeconfig(kubeconfig) if kubeconfig else in_cluster()
        Client(connection).close()  # certificates and keys are read here, not when it is too late for a clear word
    except ConnectionConfigError as error:
        raise click.ClickException(str(error) if kubeconfig else f"--kubeconfig is not given, and {error}") from error
    return connection


def _run(connection: Connection, settings: Settings) -> None:
    termination = Termination()
    doors, monitor = _doors()
    if not bridge_netfilter.load():
        log.error("pods of this node do not reach each other through Services; run: modprobe br_netfilter")
    agent = Agent(lambda: Client(connection, user_agent="podwire-node"), settings, doors, monitor)
    # The socket first: pods can be wired and unwired without the API server.
    cni_service = _serve(settings.paths.socket)
    log.info("node agent started", node=settings.identity.name, server=connection.server)
    agent.start()
    termination.wait()
    cni_service.stop()
    agent.stop()
    log.info("node agent stopped; routes, tables and files stay")


def _doors() -> tuple[Doors, Monitor]:
    try:
        nft, nft6 = LinuxNft(masquerade.TABLE), LinuxNft(masquerade.TABLE6)
        return Doors(host=linux_host(), nft=nft, nft6=nft6), Monitor()
    except (DataplaneError, OSError) as error:
        raise click.ClickException(f"no access to the kernel's network, is this root? {error}") from error


def _serve(path: Path) -> CniService:
    loaded = loaded_texts()
    cni_service = CniService(path, lambda: _open_exchange(loaded))
    try:
        cni_service.start()
    except SocketTaken as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"--socket {path}: {error.strerror}: {error.filename}") from error
    return cni_service


def _open_exchange(loaded: LoadedTexts) -> Exchange:
    """A worker's own door to the kernel: deleting a veth takes 20 ms, and nobody should wait behind it."""
    host = linux_host(loaded)
    return lambda connection: service.answer(connection, host)


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
