"""`podwire affinity`: which clients podwire-proxy keeps at which endpoint, and how to let them go."""

import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from typing import Final

import click
from rich.console import Console
from rich.table import Table as Rows

from cli.failures import shown
from cli.tables import duration
from dataplane.errors import NotFound
from dataplane.nft.interface import Nft, TransactionFailed
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import DeleteElements, Element, Family, Table
from proxy import kept_clients, layout
from proxy.kept_clients import InvalidClient, KeptClient

_FAMILIES: Final = (Family.IP, Family.IP6)
_SERVICE = click.option("--service", default="", metavar="[NAMESPACE/]NAME[:PORT]", help="Of this Service only.")
_CLIENT = click.option("--client", default="", metavar="ADDRESS", help="Of this client only.")


@click.group()
def affinity() -> None:
    """The clients that session affinity keeps, on this node (podwire lab exec NODE -- podwire affinity ls).

    Of an IPv6 client the table has the last 96 bits; the others are printed as stars.
    """


@affinity.command("ls")
@_SERVICE
@_CLIENT
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def list_clients(*, service: str, client: str, is_json: bool) -> None:
    """List clients, their endpoints, and how long they are still kept without a new connection."""
    with _tables() as tables:
        found = [kept for nft in tables for kept in _chosen(nft, service, client)]
    if is_json:
        click.echo(json.dumps([_as_json(kept) for kept in found], indent=2))
        return
    if not found:
        click.echo("no client is kept")
        return
    rows = Rows("SERVICE PORT", "CLIENT", "ENDPOINT", "LEFT", box=None, pad_edge=False, header_style="bold")
    for kept in found:
        rows.add_row(kept.service_port, kept.client, str(kept.endpoint or "gone"), duration(kept.seconds))
    Console().print(rows)


@affinity.command("rm")
@_SERVICE
@_CLIENT
@click.option("--all", "is_all", is_flag=True, help="All clients of all Services.")
def remove_clients(*, service: str, client: str, is_all: bool) -> None:
    """Let clients go: the next connection of each takes its turn. Connections there are go on."""
    if not (service or client or is_all):
        raise click.UsageError("name a --service or a --client, or say --all")
    with _tables() as tables:
        removed = sum(_remove(nft, [kept.entry for kept in _chosen(nft, service, client)]) for nft in tables)
    click.echo(f"{removed} let go")


@contextlib.contextmanager
def _tables() -> Iterator[tuple[Nft, ...]]:
    """The tables of this network namespace, there or not."""
    first, *others = (Table(family, layout.TABLE) for family in _FAMILIES)
    with shown(Console(stderr=True)), LinuxNft(first) as nft:
        yield (nft, *map(nft.beside, others))


def _chosen(nft: Nft, service: str, client: str) -> list[KeptClient]:
    try:
        return kept_clients.chosen(_kept(nft), service=service, client=client)
    except InvalidClient as error:
        raise click.BadParameter(str(error), param_hint="--client") from error


def _kept(nft: Nft) -> list[KeptClient]:
    try:
        return kept_clients.kept_clients(
            nft.expiring(layout.AFFINITY), nft.elements(layout.RING), nft.elements(layout.ENDPOINTS)
        )
    except NotFound:
        return []


def _remove(nft: Nft, entries: Sequence[Element]) -> int:
    """How many were still there."""
    if not entries:
        return 0
    try:
        nft.commit([DeleteElements(layout.AFFINITY, tuple(entries))])
    except TransactionFailed as error:
        if error.code != errno.ENOENT:
            raise
        # Some expired meanwhile: one by one.
        return sum(_remove(nft, [entry]) for entry in entries) if len(entries) > 1 else 0
    return len(entries)


def _as_json(kept: KeptClient) -> dict[str, object]:
    return {
        "servicePort": kept.service_port,
        "client": kept.client,
        "endpoint": str(kept.endpoint) if kept.endpoint else None,
        "secondsLeft": round(kept.seconds, 3),
    }
