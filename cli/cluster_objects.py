"""What the API says at one moment, of everything that decides where packets to Services go."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from kube import objects
from kube.errors import ApiError
from kube.events import EventDecoder, HasMetadata, Unreadable
from kube.http import Client
from kube.resources import ENDPOINT_SLICES, NODES, PODS, SERVICE_CIDRS, SERVICES, ResourceType
from proxy import model
from proxy.model import ServiceName

T = TypeVar("T", bound=HasMetadata)
_PAGE = 500


class ClusterObjects:
    """Implements `planning.Source`. Reads as podwire-proxy does: what cannot be read is `unreadable` and left out."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.unreadable: list[str] = []
        services = self._all(
            SERVICES,
            objects.Service,
            label_selector=f"!{model.SERVICE_PROXY_NAME}",
            field_selector="spec.clusterIP!=None",
        )
        self.services = {ServiceName(each.metadata.namespace, each.metadata.name): each for each in services}
        self._slices: dict[ServiceName, list[objects.EndpointSlice]] = {}
        for each in self._all(ENDPOINT_SLICES, objects.EndpointSlice, label_selector=f"!{model.HEADLESS}"):
            owner = model.slice_owner(each)
            if owner is not None:
                self._slices.setdefault(owner, []).append(each)
        self.nodes = {each.metadata.name: each for each in self._all(NODES, objects.Node)}
        self.service_cidrs = tuple(self._service_cidrs())

    def names(self) -> Iterable[ServiceName]:
        return self.services

    def service(self, name: ServiceName) -> objects.Service | None:
        return self.services.get(name)

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]:
        return self._slices.get(name, ())

    def pod(self, namespace: str, name: str) -> objects.Pod:
        """Raises ApiError."""
        return self._client.get(PODS, name, namespace, decode=objects.Pod)

    def _service_cidrs(self) -> Iterator[objects.ServiceCIDR]:
        try:
            yield from self._all(SERVICE_CIDRS, objects.ServiceCIDR)
        except ApiError:  # an API server before 1.33 has none
            return

    def _all(
        self,
        resource: ResourceType,
        kind: type[T],
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Iterator[T]:
        def tell(found: Unreadable) -> None:
            self.unreadable.append(f"{resource.kind} {found.key or 'without a name'}: {found.reason}")

        decoder = EventDecoder(kind, tell)
        position = ""
        while True:
            query = {"limit": str(_PAGE)} | ({"continue": position} if position else {})
            body = self._client.list(
                resource, label_selector=label_selector, field_selector=field_selector, query=query
            )
            page = decoder.page(body)
            yield from page.objects
            position = page.position
            if not position:
                return
