"""Label and field selectors: the two small languages a list or watch is narrowed with.

The grammar is Kubernetes' (k8s.io/apimachinery labels.Parse and fields.ParseSelector): `a=b`, `a==b`, `a!=b`, `a`, `!a`,
`a in (x,y)`, `a notin (x,y)`, `a>1`, `a<1`; for fields `=`, `==` and `!=`. An empty selector matches everything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Operator = Literal["=", "!=", "in", "notin", "exists", "!", ">", "<"]

_TOKEN: Final = re.compile(r"\s*(?:(!=|==|=|!|\(|\)|,|<|>)|([^!=(),<>\s]+))")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_PREFIX_LENGTH: Final = 253
_FIELD_TERM: Final = re.compile(r"((?:\\.|[^\\,])*)(?:,|$)", re.DOTALL)
_FIELD_OPERATOR: Final = re.compile(r"\s*([^\\!=\s]+)\s*(!=|==|=)(.*)", re.DOTALL)
_ESCAPABLE: Final = frozenset("\\,=")


class InvalidSelector(ValueError):
    """A selector that cannot be read: its text and what is wrong with it."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text, problem)
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"unable to parse selector {self.text!r}: {self.problem}"


def is_label_key(text: str) -> bool:
    """Whether this can be the key of a label: `name` or `dns.prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    if not slash:
        return _NAME.fullmatch(name) is not None
    return len(prefix) <= _PREFIX_LENGTH and bool(_PREFIX.fullmatch(prefix)) and bool(_NAME.fullmatch(name))


def is_label_value(text: str) -> bool:
    """Whether this can be the value of a label: empty, or up to 63 characters."""
    return not text or _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "=" | "in":
                return value in self.values
            case "!=" | "notin":  # an absent key is not one of the values
                return value not in self.values
            case ">" | "<":
                return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        (limit,) = self.values
        try:
            return int(value) > int(limit) if self.operator == ">" else int(value) < int(limit)
        except ValueError:
            return False

    def __str__(self) -> str:
        listed = ",".join(sorted(self.values))
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({listed})"
            case _:
                return f"{self.key}{self.operator}{listed}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Labels an object must have: all requirements together."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One term of a field selector."""

    field: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Fields an object must have, by their path: `metadata.name`, `spec.clusterIP`."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def fields(self) -> frozenset[str]:
        """The paths it asks for; the server refuses those a kind does not offer."""
        return frozenset(term.field for term in self.terms)

    def matches(self, selectable: Mapping[str, str]) -> bool:
        """Whether the object with these selectable fields (path → value) is chosen; an absent field is empty."""
        return all((selectable.get(term.field, "") == term.value) is term.equal for term in self.terms)

    def __str__(self) -> str:
        return ",".join(f"{term.field}{'=' if term.equal else '!='}{_escape(term.value)}" for term in self.terms)


def parse_labels(text: str) -> LabelSelector:
    """Read a label selector, raising InvalidSelector."""
    return LabelSelector(_LabelParser(text).parse()) if text.strip() else LabelSelector()


class _LabelParser:
    """Recursive descent over the tokens of one selector; words and signs are told apart by `_TOKEN`'s groups."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._tokenize())
        self._at = 0

    def _tokenize(self) -> Iterator[tuple[str, bool]]:
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._error(f"unexpected character {self._text[at]!r}")
            sign, word = match.groups()
            yield sign or word, sign is None
            at = match.end()

    def _error(self, problem: str) -> InvalidSelector:
        return InvalidSelector(self._text, problem)

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if (found := self._next()) != sign:
            raise self._error(f"found {found!r}, expected {sign!r}")

    def parse(self) -> tuple[Requirement, ...]:
        requirements = [self._requirement()]
        while self._peek():
            self._expect(",")
            requirements.append(self._requirement())
        return tuple(requirements)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "!")
        key = self._key()
        match self._peek():
            case "" | ",":
                return Requirement(key, "exists")
            case "in" | "notin":
                return Requirement(key, "in" if self._next() == "in" else "notin", self._values())
            case "=" | "==" | "!=":
                return Requirement(key, "!=" if self._next() == "!=" else "=", frozenset({self._value()}))
            case ">" | "<":
                return Requirement(key, ">" if self._next() == ">" else "<", frozenset({self._number()}))
            case found:
                raise self._error(f"found {found!r} after key {key!r}, expected an operator: = == != in notin > <")

    def _key(self) -> str:
        key = self._next()
        if not is_label_key(key):
            raise self._error(
                f"{key!r} is not a label key: name or dns.prefix/name, a name has up to 63 of [-A-Za-z0-9_.]"
            )
        return key

    def _value(self) -> str:
        """One value; nothing before a comma, a bracket or the end is the empty value."""
        if self._peek() in {"", ",", ")"}:
            return ""
        value = self._next()
        if not is_label_value(value):
            raise self._error(
                f"{value!r} is not a label value: up to 63 of [-A-Za-z0-9_.], starting and ending alphanumeric"
            )
        return value

    def _number(self) -> str:
        value = self._value()
        if not value.isdecimal():
            raise self._error(f"{value!r} is not a whole number, which > and < need")
        return value

    def _values(self) -> frozenset[str]:
        self._expect("(")
        values = {self._value()}
        while self._peek() == ",":
            self._next()
            values.add(self._value())
        self._expect(")")
        return frozenset(values)


def parse_fields(text: str) -> FieldSelector:
    r"""Read a field selector, raising InvalidSelector. In values `\\`, `,` and `=` are escaped with `\\`."""
    at = 0
    terms: list[FieldTerm] = []
    while at < len(text):
        match = _FIELD_TERM.match(text, at)
        if match is None:
            raise InvalidSelector(text, "ends with an unfinished escape '\\'")
        if match[1].strip():
            terms.append(_field_term(text, match[1]))
        at = match.end()
    return FieldSelector(tuple(terms))


def _field_term(text: str, term: str) -> FieldTerm:
    match = _FIELD_OPERATOR.fullmatch(term)
    if match is None:
        raise InvalidSelector(text, f"{term!r} is not a term: path=value, path==value or path!=value")
    path, operator, value = match.groups()
    return FieldTerm(path, operator != "!=", _unescape(text, value))


def _unescape(text: str, value: str) -> str:
    plain: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in _ESCAPABLE:
                raise InvalidSelector(text, f"unknown escape '\\{escaped}' in {value!r}: only \\\\ \\, \\= are known")
            plain.append(escaped)
        elif character == "=":
            raise InvalidSelector(text, f"unescaped '=' in value {value!r}: write \\=")
        else:
            plain.append(character)
    return "".join(plain)


def _escape(value: str) -> str:
    return "".join(f"\\{character}" if character in _ESCAPABLE else character for character in value)
