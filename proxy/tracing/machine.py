"""Follows a packet through the hooks of a host, rule by rule, as the kernel would.

    from outside or a pod   prerouting ─► route ─┬─► input
                                                 └─► forward ─► postrouting
    from the node           output ─► postrouting, and for an own address: prerouting without nat ─► input

A connection's first packet only: later ones are conntrack's. `numgen` is told which turn it is, so that each can be tried.
"""

from ipaddress import ip_address
from typing import Final, Literal

import msgspec

from dataplane.nft import values
from dataplane.nft.values import Verdict
from proxy import layout
from proxy.model import Target
from proxy.tracing import statements as s
from proxy.tracing.packet import PROTOCOL_NUMBERS, Host, Packet
from proxy.tracing.table import DeadEnd, Rules

Fate = Literal["passed", "translated", "refused", "dropped"]
_DEPTH_MAX: Final = 16  # NFT_JUMP_STACK_SIZE
_STATE_NEW: Final = "new"
_DNAT: Final = "dnat"
_ORIGINAL: Final = "original"
_LOCAL: Final = "local"


class Step(msgspec.Struct, frozen=True):
    """A rule that applied, and the chain it stands in."""

    chain: str
    rule: str

    def __str__(self) -> str:
        return f"{self.chain}: {self.rule}"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one packet. `turns` is how many ways the rules had to choose from, 0 if there was no choice.

    `decided_by` is the rule that ended it, `masqueraded_by` the one that hid its source.
    """

    fate: Fate
    target: Target | None = None
    turns: int = 0
    is_kept: bool = False
    mark: int = 0
    decided_by: Step | None = None
    masqueraded_by: Step | None = None
    steps: tuple[Step, ...] = ()


class _Ended(Exception):
    def __init__(self, fate: Fate | None) -> None:
        super().__init__(fate)
        self.fate = fate


class _NextRule(Exception):
    pass


def trace(rules: Rules, host: Host, packet: Packet, *, turn: int = 0) -> Trace:
    """Follow a packet that finds every counter at this turn. Raises NotUnderstood, DeadEnd."""
    return _Journey(rules, host, packet, turn).run()


def trace_turns(rules: Rules, host: Host, packet: Packet) -> tuple[Trace, ...]:
    """Follow it once for each turn there is to take."""
    first = trace(rules, host, packet)
    return (first, *(trace(rules, host, packet, turn=turn) for turn in range(1, first.turns)))


class _Journey:
    """One packet under way."""

    def __init__(self, rules: Rules, host: Host, packet: Packet, turn: int) -> None:
        self._rules = rules
        self._host = host
        self._packet = packet
        self._turn = turn
        self._source = packet.source.packed
        self._destination, self._port = packet.destination, packet.port
        self._mark = values.mark(0)
        self._target: Target | None = None
        self._turns = 0
        self._is_kept = False
        self._masqueraded_by: Step | None = None
        self._steps: list[Step] = []
        self._at = Step("", "")
        self._depth = 0
        self._learned: dict[tuple[str, bytes], bytes] = {}

    def run(self) -> Trace:
        fate: Fate = "passed"
        decided_by = None
        try:
            self._pass_hooks()
        except _Ended as ended:
            fate, decided_by = ended.fate or "passed", self._at
        if fate == "passed" and self._target:
            fate = "translated"
        return Trace(
            fate=fate,
            target=self._target,
            turns=self._turns,
            is_kept=self._is_kept,
            mark=values.mark_number(self._mark),
            decided_by=decided_by,
            masqueraded_by=self._masqueraded_by,
            steps=tuple(self._steps),
        )

    def _pass_hooks(self) -> None:
        is_from_node = self._packet.is_from_node
        self._hook("output" if is_from_node else "prerouting")
        is_local = self._host.has(self._destination)
        if not (is_from_node or is_local):
            self._hook("forward")
        if is_from_node or not is_local:
            self._hook("postrouting")
        if is_local:
            # What the node sends to itself comes back through lo; nat has decided by then.
            self._hook("prerouting", with_nat=False) if is_from_node else None
            self._hook("input")

    def _hook(self, name: str, *, with_nat: bool = True) -> None:
        for chain, hook in self._rules.hooked(name):
            if with_nat or not hook.is_nat:
                try:
                    self._run(chain)
                except _Ended as ended:
                    if ended.fate is not None:
                        raise
                    with_nat &= not hook.is_nat  # nf_nat_inet_fn: translated once, a packet meets no more of them

    def _run(self, name: str) -> None:
        """Run a chain to its end; a verdict that ends more than it is raised."""
        while name:
            name = self._run_rules(name)

    def _run_rules(self, name: str) -> str:
        """The chain a `goto` leads to, empty at the end of this one."""
        for rule in self._rules.chain(name).rules:
            self._at = Step(name, rule.text)
            try:
                verdict = self._apply(rule)
            except _NextRule:
                continue
            self._steps.append(self._at)
            if verdict is None:
                continue
            if verdict.kind == "goto":
                return verdict.chain
            if verdict.kind == "return":
                return ""
            if verdict.kind == "jump":
                self._jump(verdict.chain)
            elif verdict.kind != "continue":
                raise _Ended("dropped" if verdict.kind == "drop" else None)
        return ""

    def _jump(self, chain: str) -> None:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise DeadEnd("a circle at chain", chain)
        self._run(chain)
        self._depth -= 1

    def _apply(self, rule: s.Rule) -> Verdict | None:
        """Do what a rule says. Raises _NextRule where a condition of it does not hold."""
        for statement in rule.statements:
            verdict = self._do(statement)
            if verdict is not None:
                return verdict
        return None

    def _do(self, statement: s.Statement) -> Verdict | None:
        match statement:
            case s.Decide(verdict):
                return verdict
            case s.Dispatch(value, map_name):
                return self._dispatch(value, map_name)
            case s.Match() | s.InSet():
                if self._holds(statement) is statement.is_negated:
                    raise _NextRule
            case s.SetMark() | s.Rewrite() | s.Change():
                self._alter(statement)
            case s.Unmet():
                raise _NextRule
            case _:
                self._end(statement)
        return None

    def _alter(self, statement: s.SetMark | s.Rewrite | s.Change) -> None:
        match statement:
            case s.SetMark(value):
                self._mark = self._bytes(value)
            case s.Rewrite("source", address):
                self._source = address
            case s.Rewrite(_, address):
                self._destination = ip_address(address)
            case s.Change():
                self._change(statement)

    def _end(self, statement: s.Statement) -> None:
        match statement:
            case s.Reject():
                self._steps.append(self._at)
                raise _Ended("refused")
            case s.Masquerade():
                self._steps.append(self._at)
                self._masqueraded_by = self._at
                raise _Ended(None)
            case s.Translate(value):
                target = self._bytes(value)
                self._steps.append(self._at)
                self._target = layout.target(target)
                self._destination, self._port = self._target.address, self._target.port
                raise _Ended(None)

    def _dispatch(self, value: s.Fields, map_name: str) -> Verdict:
        element = self._rules.element(map_name, self._bytes(value))
        if element is None or not isinstance(element.value, Verdict):
            raise _NextRule
        return element.value

    def _holds(self, condition: s.Match | s.InSet) -> bool:
        if isinstance(condition, s.InSet):
            return self._rules.element(condition.set_name, self._bytes(condition.value)) is not None
        value = self._masked(condition.value.names[0], condition.value.mask)
        # A mark is compared as the number it is, whatever the order of its bytes.
        seen = value[::-1] if condition.value.names == ("ct mark",) and values.mark(1)[0] else value
        return any(_is_within(seen, each) for each in condition.among)

    def _change(self, change: s.Change) -> None:
        entry = change.map_name, self._bytes(change.key)
        if change.kind == "delete":
            self._learned.pop(entry, None)
            self._is_kept = False
        elif self._rules.element(*entry) is None:
            self._learned.setdefault(entry, self._bytes(change.value))
        else:
            self._is_kept = True

    def _bytes(self, value: s.Value) -> bytes:
        match value:
            case s.Constant(constant):
                return constant
            case s.Turn(modulus, offset):
                self._turns = modulus
                return values.mark(offset + self._turn % modulus)
            case s.Mapped(inner, map_name):
                return self._mapped(map_name, self._bytes(inner))
            case s.Fields(names, mask):
                fields = [_as_bytes(self._masked(name, mask)) for name in names]
                return fields[0] if len(fields) == 1 else values.concat(*fields)

    def _mapped(self, map_name: str, key: bytes) -> bytes:
        element = self._rules.element(map_name, key)
        value = element.value if element else self._learned.get((map_name, key))
        if not isinstance(value, bytes):
            raise _NextRule
        return value

    def _masked(self, name: s.Field, mask: int) -> bytes | str:
        return values.mark(values.mark_number(self._mark) & mask) if name == "ct mark" else self._field(name)

    def _field(self, name: s.Field) -> bytes | str:
        packet = self._packet
        match name:
            case "source":
                return self._source
            case "source's last 12 bytes":
                return self._source[-12:]
            case "destination":
                return self._destination.packed
            case "original source" | "original destination":
                return (packet.source if name == "original source" else packet.destination).packed
            case "protocol":
                return values.proto(PROTOCOL_NUMBERS[packet.protocol])
            case "port":
                return values.port(self._port)
            case "original port":
                return values.port(packet.port)
            case _:
                return self._text_field(name)

    def _text_field(self, name: s.Field) -> str:
        match name:
            case "ct state":
                return _STATE_NEW
            case "ct direction":
                return _ORIGINAL
            case "ct status":
                return _DNAT if self._target else ""
            case "source type":
                return _LOCAL if self._packet.is_from_node or self._host.has(self._packet.source) else ""
            case "destination type":
                return _LOCAL if self._host.has(self._destination) else ""
            case "interface":
                return self._packet.interface
            case _:
                # Bridges and routes are not followed here. What the proxy asks of them at postrouting is whether a
                # packet came by an interface the kernel forgot, and here none is forgotten.
                return ""


def _is_within(value: bytes | str, among: s.Range) -> bool:
    if isinstance(value, str) and isinstance(among.first, str):
        return value.startswith(among.first[:-1]) if among.first.endswith("*") else value == among.first
    if isinstance(value, bytes) and isinstance(among.first, bytes) and isinstance(among.last, bytes):
        return len(value) == len(among.first) and among.first <= value <= among.last
    return False


def _as_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
