"""Finding objects by what they are labelled with, without looking at all of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from api.model import Object

Key = tuple[str, str]
"""Namespace ("" for kinds without) and name."""

Pair = tuple[str, str]


def key_of(obj: Object) -> Key:
    metadata = obj.get("metadata", {})
    return metadata.get("namespace", ""), metadata.get("name", "")


class LabelIndex:
    """Keys by their labels."""

    def __init__(self) -> None:
        self._labels: dict[Key, Mapping[str, str]] = {}
        self._keys: defaultdict[tuple[str, Pair], set[Key]] = defaultdict(set)

    def put(self, key: Key, labels: Mapping[str, str]) -> None:
        if self._labels.get(key) == labels:
            return
        self.remove(key)
        self._labels[key] = labels
        for pair in labels.items():
            self._keys[key[0], pair].add(key)

    def remove(self, key: Key) -> None:
        for pair in self._labels.pop(key, {}).items():
            keys = self._keys[key[0], pair]
            keys.discard(key)
            if not keys:
                del self._keys[key[0], pair]

    def select(self, namespace: str, labels: Mapping[str, str]) -> frozenset[Key]:
        """Keys of a namespace with all of these labels; none when no label is given."""
        sets = sorted((self._keys.get((namespace, pair), set()) for pair in labels.items()), key=len)
        return frozenset(sets[0].intersection(*sets[1:])) if sets else frozenset()


class SelectorIndex:
    """The other way round: which selectors a set of labels satisfies. Each waits under one of its pairs."""

    def __init__(self) -> None:
        self._selectors: dict[Key, Mapping[str, str]] = {}
        self._waiting: defaultdict[tuple[str, Pair], set[Key]] = defaultdict(set)

    def put(self, key: Key, selector: Mapping[str, str]) -> None:
        self.remove(key)
        if selector:
            self._selectors[key] = selector
            self._waiting[key[0], min(selector.items())].add(key)

    def remove(self, key: Key) -> None:
        selector = self._selectors.pop(key, None)
        if selector:
            place = key[0], min(selector.items())
            self._waiting[place].discard(key)
            if not self._waiting[place]:
                del self._waiting[place]

    def matching(self, namespace: str, labels: Mapping[str, str]) -> Iterable[Key]:
        """Keys of selectors of this namespace that the labels satisfy."""
        for pair in labels.items():
            for key in self._waiting.get((namespace, pair), ()):
                if self._selectors[key].items() <= labels.items():
                    yield key
