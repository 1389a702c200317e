"""Which clients session affinity keeps, at which endpoint and for how long, told from the table alone.

The table names everything itself: an entry's key has the Service port's number, and under that number `ring` has an
element with the Service port's name.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from dataplane.nft.objects import Element, Expiring, fit_comment
from proxy import layout
from proxy.model import Address, Target

UNKNOWN: Final = "?"
# The parts of an IPv6 address that are no part of the key.
_ANY: Final = "*:*:"


class InvalidClient(ValueError):
    """No address, and not what is printed for a client."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"client {self.text!r}: must be an IP address, or what `podwire affinity ls` prints for one"


class KeptClient(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the map. `endpoint` is None where it is gone: then the client's next connection goes to another."""

    entry: Element
    service_port: str
    endpoint: Target | None
    seconds: float

    @property
    def client(self) -> str:
        """Its address; of an IPv6 client what the key has of it, as *:*:244:1:0:0:0:2."""
        known = self.entry.key[:-4]
        if len(known) == 4:
            return str(ipaddress.ip_address(known))
        groups = (int.from_bytes(known[at : at + 2], "big") for at in range(0, len(known), 2))
        return _ANY + ":".join(f"{group:x}" for group in groups)


def kept_clients(
    entries: Iterable[Expiring], ring: Iterable[Element], endpoints: Iterable[Element]
) -> list[KeptClient]:
    """All entries, by Service port and client."""
    names = {element.key: element.comment for element in ring if element.comment}
    targets = dict(_targets(endpoints))
    found = [_kept_client(entry, names, targets) for entry in entries]
    return sorted(found, key=lambda kept: (kept.service_port, kept.entry.key))


def chosen(kept: Iterable[KeptClient], *, service: str = "", client: str = "") -> list[KeptClient]:
    """Those of a Service ([namespace/]name[:port]) and of a client. Raises InvalidClient."""
    wanted = fit_comment(service if "/" in service or not service else f"default/{service}")
    key = _key(client) if client else b""
    return [each for each in kept if _is_of(each, wanted) and (not key or each.entry.key[:-4] == key)]


def _kept_client(found: Expiring, names: Mapping[bytes, str], targets: Mapping[bytes, Target]) -> KeptClient:
    entry = found.element
    value = entry.value if isinstance(entry.value, bytes) else b""
    return KeptClient(
        entry=entry,
        service_port=names.get(entry.key[-4:], UNKNOWN),
        endpoint=targets.get(value),
        seconds=found.milliseconds / 1000,
    )


def _targets(endpoints: Iterable[Element]) -> Iterator[tuple[bytes, Target]]:
    for element in endpoints:
        if isinstance(element.value, bytes):
            yield element.key, layout.target(element.value)


def _is_of(kept: KeptClient, service: str) -> bool:
    return not service or kept.service_port == service or kept.service_port.startswith(f"{service}:")


def _key(client: str) -> bytes:
    try:
        address: Address = ipaddress.ip_address(client.replace(_ANY, "0:0:", 1))
    except ValueError:
        raise InvalidClient(client) from None
    return address.packed[-12:]
