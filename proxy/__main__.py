"""podwire-proxy: the process around the proxy. Flags in, SIGTERM out; logs go to stderr as key=value."""

import gc
import logging
import signal
import socket
import sys
import threading
from pathlib import Path

import click
import structlog

from dataplane.conntrack import Conntrack
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import Family
from kube.connection import Connection, ConnectionConfigError, from_kubeconfig, in_cluster
from kube.http import Client
from proxy.health import HealthPages
from proxy.http_server import PersistentServer
from proxy.layout import TABLE
from proxy.metrics import ConnectionMetrics
from proxy.metrics_server import MetricsPages
from proxy.program import Proxy
from proxy.ruleset import Ruleset

log = structlog.get_logger(__name__)


def _node_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    name = value.strip().lower()
    if not name:
        raise click.BadParameter(f"{value!r}: must name this node as its Node object does")
    return name


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int] | None:
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r}: use ADDRESS:PORT, or nothing to serve none")
    return host.strip("[]"), int(port)


@click.command(context_settings={"show_default": True})
@click.version_option(package_name="podwire")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="In a pod: not needed."
)
@click.option(
    "--hostname-override",
    "node",
    default=socket.gethostname,
    show_default="host name",
    callback=_node_name,
    help="This node's name; endpoints with it are local.",
)
@click.option("--healthz-bind-address", default="0.0.0.0:10256", callback=_address, help="For /healthz and /livez.")
@click.option(
    "--metrics-bind-address", default="127.0.0.1:10249", callback=_address, help="For /metrics, /proxyMode, /healthz."
)
@click.option(
    "--bind-address-hard-fail", is_flag=True, help="End when such an address is taken, instead of trying again."
)
@click.option("-v", "verbosity", type=click.IntRange(min=0), default=2, help="From 4 on, debugging is logged too.")
def main(
    *,
    kubeconfig: Path | None,
    node: str,
    healthz_bind_address: tuple[str, int] | None,
    metrics_bind_address: tuple[str, int] | None,
    bind_address_hard_fail: bool,
    verbosity: int,
) -> None:
    """Take connections to Services' cluster IPs to their endpoints, in strict turn, with nftables."""
    _configure_logging(verbosity)
    # What is built here stays: looking for cycles in it again and again is a third of the time of a large start.
    gc.set_threshold(100_000, 50, 1000)
    stop = _signalled()
    connection = _connection(kubeconfig)
    only_one = _only_one()
    proxy = Proxy(Client(connection, "podwire-proxy"), LinuxNft(Ruleset(Family.IP).table), Conntrack(), node=node)
    proxy.metrics.add(ConnectionMetrics(LinuxNft(Ruleset(Family.IP).table), proxy.served))
    servers = [
        PersistentServer(name, address, respond)
        for name, address, respond in (
            ("healthz", healthz_bind_address, HealthPages(proxy.health, proxy.metrics)),
            ("metrics", metrics_bind_address, MetricsPages(proxy.metrics)),
        )
        if address
    ]
    for server in servers:
        _start(server, must_bind=bind_address_hard_fail)
    log.info("proxy started", node=node, server=connection.server)
    proxy.start()
    stop.wait()
    for server in servers:
        server.stop()
    proxy.stop()
    only_one.close()
    log.info("proxy stopped; the table stays")


def _connection(kubeconfig: Path | None) -> Connection:
    try:
        return from_kubeconfig(kubeconfig) if kubeconfig else in_cluster()
    except ConnectionConfigError as error:
        raise click.ClickException(str(error) if kubeconfig else f"--kubeconfig is not given, and {error}") from error


def _only_one() -> socket.socket:
    """Be the only proxy here: two would undo each other's work. The name is the namespace's and goes with the process."""
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claimed.bind(f"\0{TABLE}")
    except OSError as error:
        raise click.ClickException("another podwire-proxy serves this network namespace; end it first") from error
    return claimed


def _start(server: PersistentServer, *, must_bind: bool) -> None:
    try:
        server.start(must_bind=must_bind)
    except OSError as error:
        raise click.ClickException(f"--bind-address-hard-fail: {server}: {error.strerror}") from error


def _signalled() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _configure_logging(verbosity: int) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbosity >= 4 else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    main()
