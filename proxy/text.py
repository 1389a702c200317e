"""A state as nft text: for taking over a table of another layout in one transaction, and for people.

Loading text is slower than netlink, but the skeleton is text, and only text can hold both in one transaction: so no
packet ever meets a table without Services.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final

from dataplane.nft import values
from dataplane.nft.expressions import Expression, LoadValue, NumgenIncrement, SetVerdict, StoreCtMark
from dataplane.nft.objects import Element, Table
from dataplane.nft.values import Verdict
from proxy import layout
from proxy.state import State

_PROTOCOL_NAMES: Final = {number: name.lower() for name, number in layout.PROTOCOL_NUMBERS.items()}
_ELEMENTS_A_COMMAND: Final = 1000


class Unprintable(ValueError):
    """A state holds something this proxy never writes."""

    def __init__(self, found: object) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"no nft text for {self.found!r}"


def format_state(state: State, table: Table) -> str:
    """The commands that add a state to a table that has the skeleton."""
    return "".join(f"{line}\n" for line in (*_chains(state, table), *_elements(state, table)))


def format_affinity(elements: Iterable[Element], table: Table) -> str:
    """The commands that add what an earlier table remembered of clients; their timeouts begin anew."""
    formatted = (_affinity_element(element) for element in elements)
    return "".join(f"{line}\n" for line in _add_elements(layout.AFFINITY, formatted, table))


def _chains(state: State, table: Table) -> Iterator[str]:
    # All chains first: verdicts name them.
    for name, content in state.chains.items():
        yield f'add chain {table} {name} {{ comment "{content.comment}" ; }}'
    for name, content in state.chains.items():
        for rule in content.rules:
            yield f"add rule {table} {name} {' '.join(_statements(rule))}"


def _statements(rule: tuple[Expression, ...]) -> Iterator[str]:
    match rule:
        case (NumgenIncrement(modulus=modulus, offset=offset), StoreCtMark()):
            yield f"ct mark set numgen inc mod {modulus} offset {offset}"
        case (LoadValue(value=value), StoreCtMark(), SetVerdict(verdict=verdict)):
            yield f"ct mark set {_mark(value)} {verdict}"
        case (SetVerdict(verdict=verdict),):
            yield str(verdict)
        case _:
            raise Unprintable(rule)


def _elements(state: State, table: Table) -> Iterator[str]:
    for set_name, elements in state.elements.items():
        yield from _add_elements(set_name, [_element(set_name, element) for element in elements.values()], table)


def _add_elements(set_name: str, formatted: Iterable[str], table: Table) -> Iterator[str]:
    entries = list(formatted)
    for start in range(0, len(entries), _ELEMENTS_A_COMMAND):
        joined = ", ".join(entries[start : start + _ELEMENTS_A_COMMAND])
        yield f"add element {table} {set_name} {{ {joined} }}"


def format_key(set_name: str, element: Element) -> str:
    """What an element stands under."""
    key = _KEYS[set_name](element.key)
    return key if element.end is None else f"{key}-{ip_address(element.end[len(element.end) // 2 + 4 :])}"


def _element(set_name: str, element: Element) -> str:
    comment = f' comment "{element.comment}"' if element.comment else ""
    key, value = format_key(set_name, element), element.value
    if value is None:
        return f"{key}{comment}"
    shown = str(value) if isinstance(value, Verdict) else _VALUES[set_name](value)
    return f"{key}{comment} : {shown}"


def _affinity_element(element: Element) -> str:
    if not isinstance(element.value, bytes):
        raise Unprintable(element)
    client, number = element.key[:-4], element.key[-4:]
    shown = str(ip_address(client)) if len(client) == 4 else f"0x{client.hex()}"
    timeout = "" if element.timeout is None else f" timeout {element.timeout}ms"
    return f"{shown} . {_mark(number)}{timeout} : {_mark(element.value)}"


def _frontend(key: bytes) -> str:
    return f"{ip_address(key[:-8])} . {_PROTOCOL_NAMES.get(key[-8], key[-8])} . {_port(key[-4:])}"


def _node_port(key: bytes) -> str:
    return f"{_PROTOCOL_NAMES.get(key[0], key[0])} . {_port(key[4:])}"


def _source(key: bytes) -> str:
    middle = len(key) // 2 + 4
    return f"{_frontend(key[:middle])} . {ip_address(key[middle:])}"


def _target(value: bytes) -> str:
    return f"{ip_address(value[:-4])} . {_port(value[-4:])}"


def _hairpin(key: bytes) -> str:
    return f"{_mark(key[:4])} . {ip_address(key[4:])}"


def _address(key: bytes) -> str:
    return str(ip_address(key))


def _mark(value: bytes) -> str:
    return f"{values.mark_number(value):#010x}"


def _port(padded: bytes) -> int:
    return int.from_bytes(padded[:2], "big")


_KEYS: Final = {
    layout.SERVICES: _frontend,
    layout.SINGLE_ENDPOINT: _frontend,
    layout.OUTSIDE: _frontend,
    layout.NODE_PORTS: _node_port,
    layout.SERVED_NODE_PORTS: _node_port,
    layout.OUTSIDE_NODE_PORTS: _node_port,
    layout.SERVED_EXTERNALS: _frontend,
    layout.NO_ENDPOINTS: _frontend,
    layout.NO_ENDPOINTS_NODE_PORTS: _node_port,
    layout.FIREWALLED: _frontend,
    layout.ALLOWED_SOURCES: _source,
    layout.KEEP_SOURCE: _mark,
    **dict.fromkeys(layout.KEPT.values(), _mark),
    layout.ENDPOINTS: _mark,
    layout.RING: _mark,
    layout.CLUSTER_IPS: _address,
    layout.HAIRPIN: _hairpin,
}
_VALUES: Final = {
    layout.SINGLE_ENDPOINT: _mark,
    layout.ENDPOINTS: _target,
    layout.RING: _mark,
}
