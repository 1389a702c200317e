"""What a packet would meet in the proxy's table: the table's maps followed by hand, knowing nothing of the proxy's state.

It raises on anything dangling, so reading a table is a check of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.nft import values
from dataplane.nft.expressions import NumgenIncrement, SetVerdict
from dataplane.nft.interface import Nft
from proxy import layout

_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


@dataclass(frozen=True)
class Front:
    """A cluster IP and port, as it stands in the table."""

    cluster_ip: str
    protocol: str
    port: int


@dataclass(frozen=True)
class Way:
    """What becomes of a new connection: the targets in the order of their turns, or dropped."""

    turns: tuple[str, ...] = ()
    affinity: int | None = None
    dropped: bool = False

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(self.turns)


class Reading:
    """One reading of a table. `ways` is what this node's pods meet, `outside` what others meet instead."""

    def __init__(self, nft: Nft) -> None:
        self._sets = {name: {element.key: element for element in nft.elements(name)} for name in layout.WRITTEN}
        self._rules = nft.all_rules()
        self._met_ids: set[bytes] = set()
        self._met_positions: set[int] = set()
        self.chains = frozenset(chain.name for chain in nft.chains())
        self.cluster_ips = frozenset(str(ip_address(key)) for key in self._sets["cluster-ips"])
        self.ids = {key: _target(element.value) for key, element in self._sets["endpoints"].items()}
        ring = {values.mark_number(key): element.value for key, element in self._sets["ring"].items()}
        self.positions = {
            position: one
            for position, one in ring.items()
            if position % layout.IDS_A_PORT or position in layout.RING_POSITIONS
        }
        self.kept = {name: frozenset(self.ids[key] for key in self._sets[name]) for name in layout.KEPT.values()}
        assert all(self.ids[one] for one in ring.values())
        self.hairpin = frozenset(f"{self.ids[key[:4]]} {ip_address(key[4:])}" for key in self._sets["hairpin"])
        self.keep_source = frozenset(self.ids[key] for key in self._sets["keep-source"])
        self.outside = self._ways("outside", _front)
        self.node_ports = self._ways("nodeports", _node_port)
        self.outside_node_ports = self._ways("outside-nodeports", _node_port)
        assert {_node_port(key) for key in self._sets["served-nodeports"]} == self.node_ports.keys()
        self.refused = {_front(key) for key in self._sets["no-endpoints"]}
        self.refused_node_ports = {_node_port(key) for key in self._sets["no-endpoints-nodeports"]}
        self.ways = self._ways("services", _front)
        for key, element in self._sets["single-endpoint"].items():
            assert _front(key) not in self.ways, "a Service port stands in both maps"
            self.ways[_front(key)] = Way((self.ids[element.value],))
            self._met_ids.add(element.value)
        self._check_nothing_is_unused()

    def _ways(self, name: str, front: Callable) -> dict:
        return {front(key): self._way(element.value) for key, element in self._sets[name].items()}

    def _way(self, verdict: values.Verdict) -> Way:
        if verdict.kind == "drop":
            return Way(dropped=True)
        assert verdict.chain in self.chains
        expressions = [expression for _, rule in self._rules[verdict.chain] for expression in rule.expressions]
        (turn,) = [expression for expression in expressions if isinstance(expression, NumgenIncrement)]
        positions = range(turn.offset, turn.offset + turn.modulus)
        ids = tuple(self._standing_at(position) for position in positions)
        jumps = [expression.verdict.chain for expression in expressions if isinstance(expression, SetVerdict)]
        self._met_ids.update(ids)
        self._met_positions.update(position for position in positions if position in self.positions)
        return Way(tuple(self.ids[one] for one in ids), _affinity(jumps))

    def _standing_at(self, position: int) -> bytes:
        if position in layout.ENDPOINT_IDS:
            return self.positions.get(position, values.mark(position))
        return self.positions[position]

    def _check_nothing_is_unused(self) -> None:
        assert self.positions.keys() == self._met_positions
        assert self.ids.keys() == self._met_ids


def _affinity(jumps: list[str]) -> int | None:
    if jumps == ["pick"]:
        return None
    first, last = jumps
    assert first.startswith("sticky-")
    assert last == f"stick-{first.rpartition('-')[2]}"
    return int(last.removeprefix("stick-"))


def _front(key: bytes) -> Front:
    return Front(str(ip_address(key[:-8])), _PROTOCOLS[key[-8]], int.from_bytes(key[-4:-2], "big"))


def _node_port(key: bytes) -> tuple[str, int]:
    return _PROTOCOLS[key[0]], int.from_bytes(key[4:6], "big")


def _target(value: bytes) -> str:
    return f"{ip_address(value[:-4])}:{int.from_bytes(value[-4:-2], 'big')}"
