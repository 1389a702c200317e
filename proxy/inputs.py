"""The API's Services and EndpointSlices as the proxy asks for them: by Service.

The two caches are filled by threads of their own; each change there marks the Service it concerns. A slice belongs to
the Service its label names, so a slice that changes hands marks two.
"""

from collections.abc import Callable, Iterable

from kube import objects
from kube.cache import Cache
from proxy import model
from proxy.model import ServiceName


class Inputs:
    """Implements `planning.Source` over two caches. `mark` is called from the threads that fill them."""

    def __init__(
        self,
        services: Cache[objects.Service],
        slices: Cache[objects.EndpointSlice],
        mark: Callable[[ServiceName], None],
    ) -> None:
        self._services = services
        self._mark = mark
        # Replaced, never changed in place, so that a reader in another thread needs no lock.
        self._slices: dict[ServiceName, dict[str, objects.EndpointSlice]] = {}
        services.subscribe(self._on_service)
        slices.subscribe(self._on_slice)

    def names(self) -> Iterable[ServiceName]:
        return [ServiceName(*key) for key in self._services.snapshot() if _is_named(*key)]

    def service(self, name: ServiceName) -> objects.Service | None:
        return self._services.get(name.namespace, name.name)

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]:
        """By name: of two entries for one endpoint the later counts, and which that is must not depend on history."""
        held = self._slices.get(name, {})
        return [held[slice_name] for slice_name in sorted(held)]

    def _on_service(self, old: objects.Service | None, new: objects.Service | None) -> None:
        service = new or old
        if service is not None and _is_named(service.metadata.namespace, service.metadata.name):
            self._mark(ServiceName(service.metadata.namespace, service.metadata.name))

    def _on_slice(self, old: objects.EndpointSlice | None, new: objects.EndpointSlice | None) -> None:
        before = model.slice_owner(old) if old else None
        after = model.slice_owner(new) if new else None
        if old is not None and before is not None and before != after:
            self._drop(before, old.metadata.name)
            self._mark(before)
        if new is not None and after is not None:
            self._slices[after] = {**self._slices.get(after, {}), new.metadata.name: new}
            self._mark(after)

    def _drop(self, owner: ServiceName, slice_name: str) -> None:
        rest = {name: kept for name, kept in self._slices.get(owner, {}).items() if name != slice_name}
        if rest:
            self._slices[owner] = rest
        else:
            self._slices.pop(owner, None)


def _is_named(namespace: str, name: str) -> bool:
    """What has no namespace or name no API server has; and keys without a namespace mean other things to the rounds."""
    return bool(namespace and name)
