"""Objects the proxy cannot serve, told as Events on these very objects, with the field that is wrong."""

from collections.abc import Callable

from kube import objects
from kube.cache import Cache
from kube.events import Unreadable
from kube.resources import ENDPOINT_SLICES, NODES, SERVICES, ResourceType
from proxy import answering, slice_faults
from proxy.events import About, Event, Recorder
from proxy.model import InvalidService, ServiceName


class Trouble:
    """Knows which object an error is about. Any thread may tell."""

    def __init__(self, recorder: Recorder, services: Cache[objects.Service]) -> None:
        self._recorder = recorder
        self._services = services

    def service(self, name: ServiceName, error: Exception) -> None:
        """A Service cannot be served, or no longer as it should be; what has no namespace is none."""
        if not name.namespace:
            return
        reason = "InvalidService" if isinstance(error, InvalidService) else "ServiceNotServed"
        self.about_service(name, reason, str(error))

    def about_service(self, name: ServiceName, reason: str, message: str) -> None:
        service = self._services.get(name.namespace, name.name)
        uid = service.metadata.uid if service else ""
        self._recorder.record(Event(About(SERVICES, name.namespace, name.name, uid), reason, message))

    def on_service(self, _old: objects.Service | None, new: objects.Service | None) -> None:
        """A Service came: does it wish what cannot be?"""
        if new is not None and (complaint := answering.complaint(new)):
            metadata = new.metadata
            message = f"Service {metadata.namespace}/{metadata.name}: {complaint}"
            self.about_service(ServiceName(metadata.namespace, metadata.name), "InvalidAnnotation", message)

    def unreadable(self, resource: ResourceType) -> Callable[[Unreadable], None]:
        """What to call for objects of this kind that could not be decoded."""

        def tell(found: Unreadable) -> None:
            reason = f"Unreadable{resource.kind}"
            if found.key and found.key.name:
                about = About(resource, found.key.namespace, found.key.name, found.uid)
                message = f"{resource.kind} {found.key} is ignored as it is: {found.reason}"
                self._recorder.record(Event(about, reason, message))
            else:
                message = f"a {resource.kind} without a name is ignored: {found.reason}"
                self._recorder.record(on_node(self._recorder.node, reason, message, is_warning=True))

        return tell

    def on_endpoint_slice(self, _old: objects.EndpointSlice | None, new: objects.EndpointSlice | None) -> None:
        """An EndpointSlice came: what of it is left out?"""
        found = tuple(slice_faults.faults(new)) if new else ()
        if new is None or not found:
            return
        metadata = new.metadata
        about = About(ENDPOINT_SLICES, metadata.namespace, metadata.name, metadata.uid)
        more = f", and {len(found) - 1} more of its fields" if found[1:] else ""
        message = f"EndpointSlice {metadata.namespace}/{metadata.name}: {found[0]}{more}; what is wrong is left out"
        self._recorder.record(Event(about, "InvalidEndpointSlice", message))


def on_node(node: str, reason: str, message: str, *, is_warning: bool) -> Event:
    """An Event on this node; like kube-proxy's it has the node's name for its uid, which is how kubectl finds it."""
    return Event(About(NODES, "", node, node), reason, message, "Warning" if is_warning else "Normal")
