"""A table to trace: chains read from text, and what changes with Services, from a state."""

from collections.abc import Iterator, Mapping

from dataplane.nft import expressions
from dataplane.nft.objects import Element
from proxy.state import ChainContent, State
from proxy.tracing import statements as s
from proxy.tracing.parsing import NotUnderstood


class DeadEnd(ValueError):
    """A rule or an element leads to what is not in the table."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"the table leads to {self.kind} {self.name}, which it does not have"


class Rules:
    """A table to trace: its fixed chains, and the state that changes with Services."""

    def __init__(self, chains: Mapping[str, s.Chain], state: State) -> None:
        self._chains = {**chains, **{name: _chain(name, content) for name, content in state.chains.items()}}
        self._elements: dict[str, dict[bytes, Element]] = {}
        self._intervals: dict[str, list[Element]] = {}
        for set_name, element in state.entries():
            if element.end is None:
                self._elements.setdefault(set_name, {})[element.key] = element
            else:
                self._intervals.setdefault(set_name, []).append(element)

    def chain(self, name: str) -> s.Chain:
        found = self._chains.get(name)
        if found is None:
            raise DeadEnd("chain", name)
        return found

    def hooked(self, hook: str) -> Iterator[tuple[str, s.Hook]]:
        """The base chains of a hook in the order the kernel runs them."""
        found = [(name, chain.hook) for name, chain in self._chains.items() if chain.hook and chain.hook.name == hook]
        return iter(sorted(found, key=lambda each: each[1].priority))

    def element(self, set_name: str, key: bytes) -> Element | None:
        found = self._elements.get(set_name, {}).get(key)
        if found is not None:
            return found
        # Only the last field of a key is ever a range, so whole keys can be compared.
        return next((each for each in self._intervals.get(set_name, ()) if each.key <= key <= (each.end or b"")), None)


def _chain(name: str, content: ChainContent) -> s.Chain:
    return s.Chain(tuple(_rule(name, expressions) for expressions in content.rules))


def _rule(chain: str, given: tuple[expressions.Expression, ...]) -> s.Rule:
    """A rule as the proxy writes it over netlink."""
    text = ", ".join(map(str, given))
    found: list[s.Statement] = []
    loaded: s.Value | None = None
    for expression in given:
        value, statement = _loaded(expression, loaded), _stated(expression, loaded)
        if value is None and statement is None:
            raise NotUnderstood(f"{chain}: {text}", str(expression))
        loaded = value or loaded
        found += [statement] if statement else []
    return s.Rule(text, tuple(found))


def _loaded(expression: expressions.Expression, before: s.Value | None) -> s.Value | None:
    """What the register holds after an expression that loads something."""
    match expression:
        case expressions.NumgenIncrement(modulus=modulus, offset=offset):
            return s.Turn(modulus, offset)
        case expressions.LoadCtMark():
            return s.Fields(("ct mark",))
        case expressions.LoadValue(value=constant):
            return s.Constant(constant)
        case expressions.Lookup(map_name=map_name) if before is not None:
            return s.Mapped(before, map_name)
    return None


def _stated(expression: expressions.Expression, loaded: s.Value | None) -> s.Statement | None:
    match expression:
        case expressions.StoreCtMark() if loaded is not None:
            return s.SetMark(loaded)
        case expressions.SetVerdict(verdict=verdict):
            return s.Decide(verdict)
        case expressions.Counter():
            return s.Note()
    return None
