"""Which objects a request is about: a namespace or all, narrowed by labels and fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kube.selectors import FieldSelector, LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object as the server keeps it in memory: ready to send, and what it can be selected by."""

    namespace: str
    name: str
    revision: int
    encoded: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A namespace (None: all of them), a label selector and a field selector: an object must pass all three."""

    namespace: str | None = None
    labels: LabelSelector = field(default_factory=LabelSelector)
    fields: FieldSelector = field(default_factory=FieldSelector)

    def includes(self, kept: Kept | None) -> bool:
        if kept is None or self.namespace not in {None, kept.namespace}:
            return False
        return self.labels.matches(kept.labels) and self.fields.matches(kept.fields)

    @property
    def is_narrowed(self) -> bool:
        """Whether a selector, and not only a namespace, decides."""
        return bool(self.labels.requirements or self.fields.terms)
