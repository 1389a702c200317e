"""`podwire ipam`: who has which address, who had it, how many are left, and leases of another plugin taken over."""

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cni import conf, rebuilding
from cni.conf import NetConf
from cni.host import linux_host
from cni.spec import PLUGIN_TYPE, CniError
from dataplane import netns
from dataplane.errors import DataplaneError
from ipam import host_local
from ipam.address import Address, Network
from ipam.errors import LeaseError, LeasesUnreadable
from ipam.file import NAME
from ipam.forecast import Churn, full_in
from ipam.history import Tenure
from ipam.leases import Leases, replace_file
from ipam.pool import Pool, PoolError

_DIRECTORY = click.option(
    "--data-dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/podwire/node/cni"),
    show_default=True,
    help="Where the leases are: the node agent's, or the dataDir of the network configuration.",
)


def _moment(text: str) -> datetime:
    """A time without a zone is the machine's own; one without a date is today's."""
    now = datetime.now().astimezone()
    stated = datetime.fromisoformat(text if "-" in text else f"{now.date()} {text}")
    return stated if stated.tzinfo else stated.replace(tzinfo=now.tzinfo)


@click.group()
def ipam() -> None:
    """The addresses of this node."""


@ipam.command("ls")
@_DIRECTORY
def list_leases(directory: Path) -> None:
    """List the addresses that are given, and to whom."""
    table = _table("NETWORK", "ADDRESS", "OWNER", "CONTAINER", "INTERFACE", "STATE")
    with _open(directory) as leases:
        for network in leases.networks():
            for lease in leases.of(network):
                attachment = lease.claim.attachment
                who = (lease.claim.owner, attachment.container_id, attachment.ifname)
                table.add_row(network, lease.listed, *who, lease.state.value)
    _print(table, otherwise=f"no address is given in {directory / NAME}")


@ipam.command()
@click.option(
    "--conf",
    "conflist",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=Path("/etc/cni/net.d/10-podwire.conflist"),
    show_default=True,
    help="The network configuration, which says what there is to give.",
)
def usage(conflist: Path) -> None:
    """Tell how many addresses are left, and when the last one goes if pods keep coming as in the last hour."""
    table = _table("NETWORK", "RANGES", "USED", "RESTING", "FREE", "LAST HOUR", "FULL IN")
    network = _network(conflist)
    with _open(network.essentials.directory) as leases:
        for pools in network.addressing.ranges:
            table.add_row(*_usage_row(leases, network.name, pools))
    _print(table, otherwise=f"{conflist}: another plugin gives the addresses of network {network.name}")


def _network(path: Path) -> NetConf:
    """The network of a conflist, or of a single plugin's configuration."""
    try:
        document = conf.decode(path.read_bytes())
        plugins = document.get("plugins", [document])
        plugin = next((each for each in plugins if each.get("type") == PLUGIN_TYPE), None)
        if plugin is None:
            raise click.ClickException(f"{path}: no plugin of it is {PLUGIN_TYPE}; name another file with --conf")
        return conf.parse_conf({"name": document.get("name"), "cniVersion": "1.0.0", **plugin})
    except (CniError, AttributeError, OSError) as error:
        raise click.ClickException(f"{path}: {error}") from error


def _usage_row(leases: Leases, network: str, pools: Sequence[Pool]) -> tuple[str, ...]:
    usages = leases.usage(network, pools)
    churns = [leases.churn(network, pool) for pool in pools]
    total = Churn(given=sum(each.given for each in churns), released=sum(each.released for each in churns))
    used, resting, free = (sum(getattr(each, name) for each in usages) for name in ("used", "cooling", "free"))
    left = full_in(free, total)
    spelled = "never" if left is None else f"{left.total_seconds() / 60:,.0f} min"
    ranges = ", ".join(str(pool.network) for pool in pools)
    return (network, ranges, f"{used:,}", f"{resting:,}", f"{free:,}", f"+{total.given} -{total.released}", spelled)


@ipam.command()
@click.argument("address", type=ipaddress.ip_address)
@click.option("--at", "moment", type=_moment, help="Only who had it then: 14:05, or 2026-01-31T14:05.")
@_DIRECTORY
def history(address: Address, moment: datetime | None, directory: Path) -> None:
    """Tell who had ADDRESS, and from when to when."""
    with _open(directory) as leases:
        told = [tenure for tenure in leases.history(address) if moment is None or tenure.covers(moment)]
    table = _table("FROM", "TO", "NETWORK", "OWNER", "CONTAINER", "INTERFACE")
    for tenure in told:
        table.add_row(*_row(tenure))
    when = f" at {_shown(moment, '')}" if moment else ""
    _print(table, otherwise=f"nobody had {address}{when}, as far as {directory / NAME} knows")


@ipam.command("import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--subnet",
    "subnets",
    type=ipaddress.ip_network,
    multiple=True,
    required=True,
    help="A range it gave from; repeatable.",
)
@click.option("--network", help="The network's name.  [default: the folder's]")
@_DIRECTORY
def import_leases(folder: Path, subnets: tuple[Network, ...], network: str | None, directory: Path) -> None:
    """Take over the leases of host-local: FOLDER is /var/lib/cni/networks/NETWORK.

    Do it while no pod is added or deleted, and change the configuration's ipam.type afterwards. The folder is only read.
    Repeating it adds what is new.
    """
    name = network or folder.resolve().name
    try:
        records = host_local.read(folder)
        found = host_local.leases(records, name, subnets, boot_id=netns.boot_id(), directory=folder)
    except host_local.NotImportable as error:
        raise click.ClickException(str(error)) from error
    with _open(directory, is_made=True) as leases:
        leases.begin_boot(netns.boot_id())
        new = leases.adopt(found)
    click.echo(f"{new} of {len(found)} leases of network {name} are new in {directory / NAME}")
    for record in records:
        if not record.container_id:
            click.echo(f"{record.address} belongs to nobody (its file is empty): it is free again")


@ipam.command()
@click.option(
    "--network",
    "networks",
    multiple=True,
    default=("podwire=podwire0",),
    show_default=True,
    help="A network of the file as NAME=BRIDGE; repeatable.",
)
@_DIRECTORY
def rebuild(networks: tuple[str, ...], directory: Path) -> None:
    """Make a damaged or lost lease file anew, from the pods that are wired to the networks' bridges.

    Refused while the file can be read, and when a pod's addresses cannot be told. The old file is kept beside the new one.
    """
    if (directory / NAME).exists() and not _is_damaged(directory):
        raise click.ClickException(f"{directory / NAME} can be read; there is nothing to rebuild")
    bridges = {name: bridge or "podwire0" for name, _, bridge in (text.partition("=") for text in networks)}
    host = linux_host()
    try:
        found = rebuilding.survivors(host, bridges)
        kept = replace_file(directory, found, host.boot_id)
    except (rebuilding.Uncertain, DataplaneError, LeaseError, PoolError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        host.close()
    click.echo(f"{len(found)} leases of {', '.join(bridges)} are in {directory / NAME}")
    for lease in found:
        click.echo(f"  {lease.listed}  {lease.claim.owner}")
    if kept:
        click.echo(f"the damaged file is {kept}")


def _is_damaged(directory: Path) -> bool:
    try:
        with Leases(directory) as leases:
            return not leases.is_sound()
    except LeasesUnreadable:
        return True


@contextmanager
def _open(directory: Path, *, is_made: bool = False) -> Iterator[Leases]:
    if not is_made and not (directory / NAME).exists():
        raise click.ClickException(f"no lease file {directory / NAME}; name the right folder with --data-dir")
    try:
        with Leases(directory) as leases:
            yield leases
    except (LeaseError, PoolError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _row(tenure: Tenure) -> tuple[str, ...]:
    attachment = tenure.attachment
    times = (_shown(tenure.since, "earlier"), _shown(tenure.until, "now"))
    return (*times, attachment.network, tenure.owner, attachment.container_id, attachment.ifname)


def _shown(moment: datetime | None, otherwise: str) -> str:
    return moment.astimezone().isoformat(" ", "seconds") if moment else otherwise


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table, *, otherwise: str) -> None:
    if table.row_count:
        Console(soft_wrap=True).print(table)
    else:
        click.echo(otherwise)
