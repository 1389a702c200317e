"""Carrying out what a planner decided, against a registry that others write to as well."""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from api.controllers.writes import Writes
from api.model import Object
from api.registry import Options, Registry
from api.store.store import StoreError
from kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from kube.resources import ResourceType

# Somebody else wrote in between: so many times in a row, and the key waits its turn like any that failed.
_ATTEMPTS: Final = 5

T = TypeVar("T")
Change = Callable[[Object], Object]


def apply(registry: Registry, resource: ResourceType, writes: Writes) -> None:
    """Write it all: additions before removals, so that what replaces something is there before it goes."""
    for obj in writes.create:
        registry.create(resource, obj["metadata"].get("namespace"), obj)
    for obj in writes.replace:
        registry.replace(resource, obj["metadata"].get("namespace"), obj["metadata"]["name"], obj)
    for obj in writes.delete:
        delete(registry, resource, obj)


def delete(registry: Registry, resource: ResourceType, obj: Object, grace_seconds: int | None = None) -> None:
    """Delete exactly this object; that it is gone already is success."""
    metadata = obj["metadata"]
    options = Options(uid=metadata.get("uid", ""))
    try:
        registry.delete(resource, metadata.get("namespace"), metadata["name"], grace_seconds, options)
    except (NotFound, Conflict):  # gone, or another object of that name by now
        return


def for_each(items: Iterable[T], act: Callable[[T], None]) -> None:
    """Act on every item, also behind one that fails; what failed is reported together at the end."""
    failures: list[Exception] = []
    for item in items:
        try:
            act(item)
        except (ApiError, StoreError) as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("; ".join(sorted({str(failure) for failure in failures})), failures)


def settle(attempt: Callable[[], bool]) -> bool:
    """Plan from what is true now and write, again when somebody was faster; returns whether anything was written."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return attempt()
        except (Conflict, AlreadyExists, NotFound):
            continue
    return attempt()
