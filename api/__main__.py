"""podwire-api: the Kubernetes API for what networking needs.

Everything is below --data-dir: the store, the certificates, the token, and admin.kubeconfig for kubectl.
"""

import contextlib
import ipaddress
import itertools
import logging
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import structlog

from api import auth, certificates, controllers, http, kubeconfig, listening, resources
from api.certificates import CertificatesDamaged
from api.controllers.node_lifecycle import Patience
from api.registry import Registry
from api.server import Servers, tls_context
from api.store.sqlite import SqliteStore
from api.store.store import StoreUnavailable
from ipam import cidrs
from ipam.address import Address, Network
from ipam.pool import PoolTooSmall
from kube.termination import Termination

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the flags say."""

    listen: tuple[str, ...]
    data_dir: Path
    cluster_cidrs: tuple[Network, ...]
    service_cidrs: tuple[Network, ...]
    advertise: Address | None
    patience: Patience


class _Networks(click.ParamType[tuple[Network, ...]]):
    name = "CIDR[,CIDR]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Network, ...]:
        try:
            return cidrs.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is neither a network nor one of each family: {error}", param, ctx)


class _Address(click.ParamType[Address]):
    name = "ADDRESS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        try:
            return ipaddress.ip_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(help=__doc__)
@click.version_option(package_name="podwire")
@click.option(
    "--listen", multiple=True, default=["127.0.0.1:6443"], show_default=True, help="ADDR:PORT or fd:N; repeatable."
)
@click.option("--data-dir", type=click.Path(path_type=Path), default="/var/lib/podwire/api", show_default=True)
@click.option(
    "--cluster-cidr",
    "cluster_cidrs",
    type=_Networks(),
    default="10.244.0.0/16",
    show_default=True,
    help="Pods' addresses. For dual stack one CIDR of each family, the main one first: 10.244.0.0/16,fd00:10:244::/56",
)
@click.option(
    "--service-cidr",
    "service_cidrs",
    type=_Networks(),
    default="10.96.0.0/16",
    show_default=True,
    help="ClusterIPs. For dual stack one CIDR of each family: 10.96.0.0/16,fd00:10:96::/112",
)
@click.option(
    "--advertise-address",
    "advertise",
    type=_Address(),
    help="Where pods and nodes reach this server; default: the first --listen that is not loopback.",
)
@click.option(
    "--node-monitor-grace-period",
    "grace",
    type=click.FloatRange(min=1.0),
    default=Patience().grace,
    show_default=True,
    help="Seconds that a node may leave its Lease as it is before it is not Ready.",
)
@click.option(
    "--pod-eviction-timeout",
    "eviction",
    type=click.FloatRange(min=0.0),
    default=Patience().eviction,
    show_default=True,
    help="Seconds more before its pods are deleted.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def main(log_level: str, *, grace: float, eviction: float, **flags: object) -> None:
    _log_to_stderr(log_level)
    settings = Settings(patience=Patience(grace=grace, eviction=eviction), **flags)  # type: ignore[arg-type]
    _refuse_overlap(settings)
    try:
        run(settings)
    except (StoreUnavailable, CertificatesDamaged, listening.CannotListen, PoolTooSmall, OSError) as error:
        raise click.ClickException(str(error)) from error


def _refuse_overlap(settings: Settings) -> None:
    for pods, services in itertools.product(settings.cluster_cidrs, settings.service_cidrs):
        if pods.version == services.version and pods.overlaps(services):
            raise click.UsageError(
                f"--service-cidr {services} overlaps --cluster-cidr {pods}: choose networks that do not"
            )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    _raise_descriptor_limit()
    termination, stop = Termination(), threading.Event()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(_registry(settings))
        sockets = [stack.enter_context(listening.listen(text)) for text in settings.listen]
        token, certificate = _credentials(settings, sockets)
        app = http.create_app(registry, auth.Authenticator(token))
        servers = Servers(sockets, app, tls_context(str(certificate)))
        advertise = _advertised(settings, sockets)
        threads = controllers.start(registry, stop, advertise=advertise, patience=settings.patience)
        servers.start()
        log.info(
            "serving", addresses=[listening.format_address(sock) for sock in sockets], revision=registry.hub.revision
        )
        termination.wait()
        stop.set()
        registry.close()
        servers.stop(_STOP_SECONDS)
        _join(threads, _STOP_SECONDS)  # before the store they write to is closed
    log.info("stopped")


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _raise_descriptor_limit() -> None:
    """A watch takes two descriptors, and the customary soft limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _registry(settings: Settings) -> Iterator[Registry]:
    store = SqliteStore(settings.data_dir / "store.db")
    try:
        registry = Registry(store, resources.strategies(settings.cluster_cidrs, settings.service_cidrs))
        yield registry
    finally:
        store.close()


def _credentials(settings: Settings, sockets: Sequence[socket.socket]) -> tuple[str, Path]:
    """Token, certificate and kubeconfig; made on the first start, renewed when the addresses change."""
    token = auth.load_token(settings.data_dir / "admin.token")
    files = certificates.Files(directory=settings.data_dir / "pki")
    certificates.prepare(files, _names(settings, sockets), datetime.now(UTC))
    server = f"https://{listening.format_address(sockets[0], reachable=True)}"
    content = kubeconfig.render(server, files.authority.read_bytes(), token)
    kubeconfig.write(settings.data_dir / "admin.kubeconfig", content)
    return token, files.server


def _names(settings: Settings, sockets: Sequence[socket.socket]) -> certificates.Names:
    services = {network.network_address + 1 for network in settings.service_cidrs}
    addresses = {ipaddress.ip_address("127.0.0.1"), *services, *(listening.address_of(sock) for sock in sockets)}
    if settings.advertise:
        addresses.add(settings.advertise)
    service_names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    return certificates.Names(
        addresses=frozenset(addresses), hosts=frozenset({"localhost", socket.gethostname(), *service_names})
    )


def _advertised(settings: Settings, sockets: Sequence[socket.socket]) -> tuple[Address, int]:
    """Where pods and nodes reach the server."""
    version = settings.service_cidrs[0].version
    found, port = listening.most_reachable(sockets, version)
    address = settings.advertise or found
    if address.version != version:
        log.warning(
            "the Service default/kubernetes has no endpoint: it is of the first --service-cidr's family, and the server's"
            " address is not; give --advertise-address or --listen an address of that family",
            address=str(address),
            service_cidr=str(settings.service_cidrs[0]),
        )
    return address, port


def _log_to_stderr(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()
