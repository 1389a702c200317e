"""What the API server's parts agree on: objects, and the strategy that gives each kind its own rules.

The registry owns everything all kinds share (metadata, concurrency, watching). A Strategy owns what makes one kind
different: its defaults, its validation, what it allocates, what kubectl prints. A claim is a value that must be
unique in the cluster; the registry commits claims together with the object that holds them, so neither a crash nor a
race can give one value to two objects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from kube.errors import FieldError
from kube.resources import ResourceType

Object = dict[str, Any]
"""A decoded JSON object of the API, wire spelling."""


class Column(NamedTuple):
    """One column of `kubectl get`: `cell` gets the object and the time it is printed at."""

    name: str
    type: str
    priority: int  # 0: always shown; 1: with -o wide
    cell: Callable[[Object, datetime], str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A value unique in the cluster, such as Claim(pool="clusterips", value="10.96.0.7")."""

    pool: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """An object ready to be written, with every claim it holds after this write, and others' that must stand until then."""

    obj: Object
    claims: frozenset[Claim]
    relies_on: frozenset[Claim] = frozenset()


class Claims(Protocol):
    """What is taken at the moment of admission."""

    def taken(self, pool: str) -> frozenset[str]:
        """Values already claimed, by anybody."""
        ...


class Strategy(Protocol):
    """The rules of one kind."""

    @property
    def resource(self) -> ResourceType: ...
    @property
    def short_names(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def subresources(self) -> tuple[str, ...]: ...

    def default(self, obj: Object) -> Object:
        """The object with the server's defaults filled in."""
        ...

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        """Everything wrong with the object, or with changing `old` into it."""
        ...

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        """Allocate what the object needs; raises Invalid when a pool is full."""
        ...

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        """Fields a fieldSelector may name, beside metadata.name and metadata.namespace."""
        ...

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        """Above 0, DELETE only stamps deletionTimestamp; 0 removes the object now."""
        ...
