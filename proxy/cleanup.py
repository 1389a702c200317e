"""Take away what the proxy left in the kernel: its own tables, found by name, and nothing else."""

from collections.abc import Iterable, Iterator

from dataplane.nft.interface import Nft


def clean_up(tables: Iterable[Nft]) -> Iterator[str]:
    """Delete those tables that are there; yields the name of each that was deleted. Raises DataplaneError."""
    for nft in tables:
        if nft.table_exists():
            nft.delete_table()
            yield str(nft.table)
