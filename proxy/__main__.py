"""podwire-proxy: the process around the proxy. Flags in, SIGTERM out; logs go to stderr as key=value."""

import contextlib
import functools
import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import structlog

from dataplane.conntrack import Conntrack
from dataplane.errors import DataplaneError
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import Family, Table
from dataplane.tcp_probe import TcpProbe
from kube.connection import Connection, ConnectionConfigError, from_kubeconfig, in_cluster
from kube.http import Client
from kube.termination import Termination
from proxy import cleanup as cleaning
from proxy import conntrack_sysctls, flags, here, supported
from proxy.configuration import ConfigurationError, KubeProxyConfiguration, parse, to_yaml
from proxy.configuration_file import LOOK_SECONDS, ConfigurationFile
from proxy.health import HealthPages
from proxy.http_server import PersistentServer, Respond
from proxy.layout import TABLE
from proxy.metrics import ConnectionMetrics
from proxy.metrics_server import MetricsPages
from proxy.program import Proxy
from proxy.resets import TABLE as RESETS
from proxy.single_stack import FAMILIES
from proxy.writer import STAND_IN

log = structlog.get_logger(__name__)


@click.command()
@click.version_option(package_name="podwire")
@flags.options
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A KubeProxyConfiguration, v1alpha1. All flags but --hostname-override and -v are ignored then.",
)
@click.option(
    "--write-config-to", type=click.Path(path_type=Path), help="Write the configuration to this file and end."
)
@click.option("--init-only", is_flag=True, help="Do what takes a privileged container, set conntrack, and end.")
@click.option("--cleanup", is_flag=True, help="Remove the proxy's tables and end. Services are not served any more.")
def main(*, config: Path | None, write_config_to: Path | None, init_only: bool, cleanup: bool, **values: Any) -> None:
    """Take connections to Services to their endpoints, in strict turn, with nftables."""
    file = _file(config)
    configuration, remarks = _configuration(file, values)
    if write_config_to:
        _write(configuration, write_config_to)
        return
    _speak(configuration, remarks)
    if init_only:
        conntrack_sysctls.apply(configuration.conntrack)
        return
    with contextlib.closing(_only_one()):
        if cleanup:
            _clean_up()
        else:
            _serve(configuration, lambda: _changed(file, values) if file else None)


def _file(config: Path | None) -> ConfigurationFile | None:
    try:
        return ConfigurationFile(config) if config else None
    except OSError as error:
        raise click.ClickException(f"--config {config}: {error.strerror}") from error


def _configuration(
    config: ConfigurationFile | None, values: Mapping[str, Any]
) -> tuple[KubeProxyConfiguration, list[tuple[str, str]]]:
    """The configuration in effect, and what was said that changes nothing."""
    try:
        if config is None:
            return flags.configuration(values), []
        file, ignored = parse(config.text, config.path)
        configuration, unused = flags.over(file, values)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    remarks = [(item.field, item.reason) for item in ignored]
    return configuration, [*remarks, *((name, "with --config, the file says it all") for name in unused)]


def _write(configuration: KubeProxyConfiguration, path: Path) -> None:
    try:
        path.write_bytes(to_yaml(configuration))
    except OSError as error:
        raise click.ClickException(f"--write-config-to {path}: {error.strerror}") from error


def _clean_up() -> None:
    try:
        tables = (Table(family, name) for family in (Family.IP, Family.IP6) for name in (TABLE, STAND_IN, RESETS))
        removed = list(cleaning.clean_up(map(LinuxNft, tables)))
    except DataplaneError as error:
        raise click.ClickException(f"--cleanup: {error}") from error
    click.echo("\n".join(f"removed table {table}" for table in removed) or "nothing to remove")


def _speak(configuration: KubeProxyConfiguration, remarks: Iterable[tuple[str, str]]) -> None:
    _configure_logging(configuration.logging.verbosity)
    for field, reason in remarks:
        log.warning("ignored", field=field, reason=reason)


def _changed(file: ConfigurationFile, values: Mapping[str, Any]) -> KubeProxyConfiguration | None:
    """What the file says, if that is something else than before and can be meant."""
    if not file.is_another():
        return None
    try:
        configuration, remarks = _configuration(file, values)
        _connection(configuration.client_connection.kubeconfig)
    except click.ClickException as error:
        log.warning("the configuration changed to what cannot be; the proxy goes on as it is", error=error.message)
        return None
    _speak(configuration, remarks)
    return configuration


def _serve(configuration: KubeProxyConfiguration, changed: Callable[[], KubeProxyConfiguration | None]) -> None:
    """Serve until a signal; begin anew when another configuration is there."""
    # What is built at the start stays: looking for cycles in it again and again is a third of the time of a large one.
    gc.set_threshold(1_000_000, 50, 1000)
    termination = Termination()
    wanted: KubeProxyConfiguration | None = configuration
    while wanted:
        with _serving(wanted):
            wanted = _await_end(termination, changed)


def _await_end(
    termination: Termination, changed: Callable[[], KubeProxyConfiguration | None]
) -> KubeProxyConfiguration | None:
    """Return when this configuration's time is over: with the next one, or with none at a signal."""
    while not termination.wait(LOOK_SECONDS):
        if configuration := changed():
            log.info("the configuration changed; beginning anew with it")
            return configuration
    return None


@contextlib.contextmanager
def _serving(configuration: KubeProxyConfiguration) -> Iterator[None]:
    """Serve meanwhile."""
    node = (configuration.hostname_override or socket.gethostname()).strip().lower()
    connection = _connection(configuration.client_connection.kubeconfig)
    _set_oom_score(configuration.oom_score_adj)
    conntrack_sysctls.apply(configuration.conntrack)
    with contextlib.ExitStack() as kernel:
        tables, counters = _tables(kernel), _tables(kernel)
        conntrack, probe = Conntrack(), TcpProbe()
        kernel.callback(conntrack.close)
        kernel.callback(probe.close)
        settings = here.settings(configuration, node)
        proxy = Proxy(Client(connection, "podwire-proxy"), tables, conntrack, settings, probe=probe)
        proxy.metrics.add(ConnectionMetrics({FAMILIES[nft.table.family]: nft for nft in counters}, proxy.served))
        servers = _servers(configuration, proxy)
        log.info("proxy started", node=node, server=connection.server)
        proxy.start()
        yield
        for server in servers:
            server.stop()
        proxy.stop()
    log.info("proxy stopped; the table stays")


def _servers(configuration: KubeProxyConfiguration, proxy: Proxy) -> list[PersistentServer]:
    health, figures = HealthPages(proxy.health, proxy.metrics), MetricsPages(proxy.metrics, configuration)
    pages: tuple[tuple[str, tuple[str, int] | None, Respond, str], ...] = (
        ("healthz", configuration.healthz_address, health, "FailedToStartProxierHealthcheck"),
        ("metrics", configuration.metrics_address, figures, "FailedToStartMetricServer"),
    )
    servers = [
        PersistentServer(name, address, respond, tell=functools.partial(proxy.warn, reason))
        for name, address, respond, reason in pages
        if address
    ]
    for server in servers:
        _start(server, must_bind=configuration.bind_address_hard_fail)
    return servers


def _tables(kernel: contextlib.ExitStack) -> list[LinuxNft]:
    """A table for each address family, with one socket for all, which `kernel` closes."""
    first, *others = (Table(family, TABLE) for family in supported.families())
    nft = kernel.enter_context(LinuxNft(first))
    return [nft, *map(nft.beside, others)]


def _set_oom_score(score: int) -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")
    except OSError as error:
        log.warning("the kernel may end the proxy like any other process", oomScoreAdj=score, error=str(error))


def _connection(kubeconfig: str) -> Connection:
    try:
        connection = from_kubeconfig(Path(kubeconfig)) if kubeconfig else in_cluster()
        Client(connection, "podwire-proxy").close()  # certificates and keys are read here
    except ConnectionConfigError as error:
        raise click.ClickException(str(error) if kubeconfig else f"--kubeconfig is not given, and {error}") from error
    return connection


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
    )


if __name__ == "__main__":
    main()
