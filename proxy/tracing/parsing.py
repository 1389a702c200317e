"""Reads the nft text of the proxy's table: what `proxy.ruleset` makes, not all that nft knows.

Whatever it does not understand is an error, never skipped: a trace that ignores a rule would lie.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from dataplane.nft import values
from dataplane.nft.values import Verdict
from proxy.tracing.packet import PROTOCOL_NUMBERS
from proxy.tracing.statements import (
    Chain,
    Change,
    Constant,
    Decide,
    Dispatch,
    Field,
    Fields,
    Hook,
    InSet,
    Mapped,
    Masquerade,
    Match,
    Note,
    Range,
    Reject,
    Rewrite,
    Rule,
    SetMark,
    Statement,
    Translate,
    Turn,
    Unmet,
    Value,
)

_CHAIN: Final = re.compile(r"^\tchain (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_HOOK: Final = re.compile(r"type (\S+) hook (\S+) priority (?:([a-z]+)? ?([-+])? ?)(\d+)?;.*")
_TOKEN: Final = re.compile(r'"[^"]*"|[{},]|[^\s{},"]+')
_PRIORITIES: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_FIELDS: Final[dict[tuple[str, ...], Field]] = {
    ("ct", "original", "ip", "saddr"): "original source",
    ("ct", "original", "ip6", "saddr"): "original source",
    ("ct", "original", "ip", "daddr"): "original destination",
    ("ct", "original", "ip6", "daddr"): "original destination",
    ("ct", "original", "proto-dst"): "original port",
    ("fib", "saddr", "type"): "source type",
    ("fib", "daddr", "type"): "destination type",
    ("ip", "saddr"): "source",
    ("ip6", "saddr"): "source",
    ("@nh", ",", "96", ",", "96"): "source's last 12 bytes",  # of an IPv6 header
    ("ip", "daddr"): "destination",
    ("ip6", "daddr"): "destination",
    ("meta", "l4proto"): "protocol",
    ("th", "dport"): "port",
    ("th", "sport"): "source port",
    ("ct", "mark"): "ct mark",
    ("ct", "state"): "ct state",
    ("ct", "status"): "ct status",
    ("ct", "direction"): "ct direction",
    ("iifname",): "interface",
    ("iif",): "interface number",
    ("oifname",): "outgoing interface",
}
_LONGEST_FIELD: Final = 5


class NotUnderstood(ValueError):
    """A rule the tracer cannot follow: teach it, or the trace would lie."""

    def __init__(self, rule: str, found: str) -> None:
        super().__init__(rule, found)
        self.rule = rule
        self.found = found

    def __str__(self) -> str:
        return f"cannot follow the rule {self.rule!r}: {self.found!r} is not understood"


def chains(text: str) -> dict[str, Chain]:
    """Every chain that a text declares. One that is declared empty and filled later is as filled last."""
    found: dict[str, Chain] = {}
    for name, body in _CHAIN.findall(text):
        found[name] = _chain(name, [line.strip() for line in body.splitlines()])
    return found


def _chain(name: str, lines: Sequence[str]) -> Chain:
    hook = next((_hook(name, line) for line in lines if line.startswith("type ")), None)
    rules = [rule(line) for line in lines if line and not line.startswith(("#", "type ", "comment "))]
    return Chain(tuple(rules), hook)


def _hook(chain: str, line: str) -> Hook:
    found = _HOOK.fullmatch(line)
    if found is None or (found[3] and found[3] not in _PRIORITIES):
        raise NotUnderstood(f"chain {chain}", line)
    sign = -1 if found[4] == "-" else 1
    return Hook(found[2], _PRIORITIES.get(found[3] or "", 0) + sign * int(found[5] or 0), found[1] == "nat")


@functools.lru_cache(1024)
def rule(text: str) -> Rule:
    """Read one rule."""
    return Rule(text, tuple(_Reader(text).statements()))


class _Reader:
    """A rule's tokens, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = _TOKEN.findall(text)
        self._at = 0

    def statements(self) -> Iterator[Statement]:
        while self._at < len(self._tokens):
            yield self._statement()

    def _statement(self) -> Statement:
        known: tuple[tuple[tuple[str, ...], Callable[[], Statement]], ...] = (
            (("ct", "mark", "set"), lambda: SetMark(self._value())),
            (("dnat",), self._translation),
            (("ip", "saddr", "set"), lambda: self._rewriting("source")),
            (("ip6", "saddr", "set"), lambda: self._rewriting("source")),
            (("ip", "daddr", "set"), lambda: self._rewriting("destination")),
            (("ip6", "daddr", "set"), lambda: self._rewriting("destination")),
            (("masquerade",), self._masquerade),
            (("reject", "with", "tcp", "reset"), lambda: Reject(with_reset=True)),
            (("reject",), Reject),
            (("tcp",), self._segment),
            (("counter",), Note),
            (("comment",), self._comment),
            (("add",), lambda: self._change("add")),
            (("update",), lambda: self._change("update")),
            (("delete",), lambda: self._change("delete")),
        )
        for tokens, read in known:
            if self._skip(*tokens):
                return read()
        return self._verdict() or self._condition()

    def _verdict(self) -> Decide | None:
        for kind in ("goto", "jump"):
            if self._skip(kind):
                return Decide(Verdict(kind, self._next()))
        for final in ("accept", "drop", "return", "continue"):
            if self._skip(final):
                return Decide(Verdict(final))
        return None

    def _condition(self) -> Statement:
        fields = self._fields()
        if "source port" in fields.names:  # only of what conntrack cannot place in a connection
            return self._segment()
        if self._skip("vmap"):
            return Dispatch(fields, self._set_name())
        is_negated = self._skip("!=")
        if self._peek().startswith("@"):
            return InSet(fields, self._set_name(), is_negated)
        if len(fields.names) > 1:
            raise self._misunderstood()
        return Match(fields, tuple(self._ranges(fields.names[0])), is_negated)

    def _ranges(self, field: Field) -> Iterator[Range]:
        if not self._skip("{"):
            yield self._range(field, self._next())
            return
        while not self._skip("}"):
            yield self._range(field, self._next())
            self._skip(",")

    def _range(self, field: Field, text: str) -> Range:
        try:
            return _literal(field, text)
        except ValueError:
            raise NotUnderstood(self._text, text) from None

    def _translation(self) -> Translate:
        for word in ("ip", "ip6"):
            self._skip(word)
        self._expect("to")
        return Translate(self._value())

    def _rewriting(self, field: Literal["source", "destination"]) -> Rewrite:
        return Rewrite(field, ipaddress.ip_address(self._next()).packed)

    def _masquerade(self) -> Masquerade:
        self._skip("fully-random")
        return Masquerade()

    def _segment(self) -> Unmet:
        self._at = len(self._tokens)
        return Unmet()

    def _comment(self) -> Note:
        self._next()
        return Note()

    def _change(self, kind: Literal["add", "update", "delete"]) -> Change | Note:
        name = self._set_name()
        self._expect("{")
        key = self._fields()
        if self._skip("timeout"):
            self._next()
        if self._skip("}"):
            return Note()  # a set that remembers who was here
        self._expect(":")
        value = self._value()
        self._expect("}")
        return Change(kind, name, key, value)

    def _value(self) -> Value:
        value: Value
        if self._skip("numgen", "inc", "mod"):
            modulus = int(self._next())
            value = Turn(modulus, int(self._next()) if self._skip("offset") else 0)
        elif self._peek().startswith("0x") or self._peek().isdecimal():
            value = Constant(values.mark(int(self._next(), 0)))
        else:
            value = self._fields()
        while self._skip("map"):
            value = Mapped(value, self._set_name())
        return value

    def _fields(self) -> Fields:
        names, mask = [self._field()], self._mask()
        while self._skip("."):
            names.append(self._field())
            mask &= self._mask()
        return Fields(tuple(names), mask)

    def _mask(self) -> int:
        for word in ("&", "and"):
            if self._skip(word):
                return int(self._next(), 0)
        return values.MARK_MAX

    def _field(self) -> Field:
        for length in range(_LONGEST_FIELD, 0, -1):
            name = _FIELDS.get(tuple(self._tokens[self._at : self._at + length]))
            if name is not None:
                self._at += length
                return name
        raise self._misunderstood()

    def _set_name(self) -> str:
        token = self._next()
        if not token.startswith("@"):
            raise NotUnderstood(self._text, token)
        return token.removeprefix("@")

    def _skip(self, *tokens: str) -> bool:
        is_there = tuple(self._tokens[self._at : self._at + len(tokens)]) == tokens
        self._at += len(tokens) * is_there
        return is_there

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise self._misunderstood()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise self._misunderstood()
        self._at += 1
        return self._tokens[self._at - 1]

    def _misunderstood(self) -> NotUnderstood:
        return NotUnderstood(self._text, self._peek() or "its end")


def _literal(field: Field, text: str) -> Range:
    """What stands in a rule for a value of this field."""
    match field:
        case "source" | "destination" | "original source" | "original destination":
            return _addresses(text)
        case "protocol":
            number = values.proto(PROTOCOL_NUMBERS.get(text.upper()) or int(text))
            return Range(number, number)
        case "port" | "original port":
            return _numbers(text, values.port)
        case "ct mark":
            return _numbers(text, lambda number: number.to_bytes(4, "big"))
        case _:
            return Range(text.strip('"'), text.strip('"'))


def _addresses(text: str) -> Range:
    first, _, last = text.partition("-")
    if last:
        return Range(ipaddress.ip_address(first).packed, ipaddress.ip_address(last).packed)
    network = ipaddress.ip_network(text)
    return Range(network.network_address.packed, network.broadcast_address.packed)


def _numbers(text: str, pack: Callable[[int], bytes]) -> Range:
    first, _, last = text.partition("-")
    return Range(pack(int(first, 0)), pack(int(last or first, 0)))
