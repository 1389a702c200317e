"""The proxy from the bytes of a watch to the table, without threads: what each line makes of the table, and which Events.

A neighbour, Service `good` at 10.96.0.99 with endpoint 10.244.0.99, is there from the beginning.
"""

import json
from collections.abc import Mapping

from kube import objects
from kube.cache import Cache
from kube.control import SyncFailed
from kube.errors import ApiError
from kube.events import EventDecoder, Garbled
from kube.resources import ENDPOINT_SLICES, SERVICES, ResourceType
from proxy import restart
from proxy.events import Event
from proxy.inputs import Inputs
from proxy.sync import RESYNC
from proxy.tracing import drift
from proxy.trouble import Trouble
from tests.services import RULESET
from tests.unit.test_proxy_sync import Rig


def service(name: str = "web", cluster_ip: str = "10.96.0.10") -> dict:
    """A Service as an API server writes it, with every field the proxy reads."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {"a": "b"},
            "annotations": {"podwire.dev/on-endpoint-removal": "drain:30s"},
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": "web"}],
            "externalIPs": ["203.0.113.1"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30999,
            "loadBalancerSourceRanges": ["198.51.100.0/24"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.2", "ipMode": "VIP"}]}},
    }


def endpoint_slice(owner: str = "web", address: str = "10.244.0.2") -> dict:
    return {
        "metadata": {
            "name": f"{owner}-1",
            "namespace": "default",
            "uid": f"uid-{owner}-1",
            "resourceVersion": "1",
            "labels": {"kubernetes.io/service-name": owner},
            "annotations": {"podwire.dev/weights": '{"10.244.0.2": 2}'},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "node1",
                "zone": "zone1",
                "hints": {"forZones": [{"name": "zone1"}]},
            }
        ],
    }


class Watched:
    """Services and EndpointSlices as they come, and what the proxy makes of them. It is its own recorder of Events."""

    node = "node1"

    def __init__(self) -> None:
        self.services: Cache[objects.Service] = Cache()
        self.slices: Cache[objects.EndpointSlice] = Cache()
        self.events: list[Event] = []
        self._marks: set = set()
        inputs = Inputs(self.services, self.slices, self._marks.add)
        self._trouble = Trouble(self, self.services)
        self._decoders = {
            SERVICES: EventDecoder(objects.Service, self._trouble.unreadable(SERVICES)),
            ENDPOINT_SLICES: EventDecoder(objects.EndpointSlice, self._trouble.unreadable(ENDPOINT_SLICES)),
        }
        self._caches = {SERVICES: self.services, ENDPOINT_SLICES: self.slices}
        self.services.subscribe(self._trouble.on_service)
        self.slices.subscribe(self._trouble.on_endpoint_slice)
        good = service("good", "10.96.0.99")
        good["spec"] = {key: good["spec"][key] for key in ("type", "clusterIP", "clusterIPs")} | {
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]
        }
        good["status"] = {}
        self.put(SERVICES, good)
        self.put(ENDPOINT_SLICES, endpoint_slice("good", "10.244.0.99"))
        self.rig = Rig(world=inputs)
        self._marks.clear()

    def record(self, event: Event) -> None:
        self.events.append(event)

    def put(self, resource: ResourceType, obj: Mapping) -> None:
        self.line(resource, json.dumps({"type": "ADDED", "object": obj}).encode())

    def line(self, resource: ResourceType, line: bytes) -> bool:
        """One line of a watch. False if it cannot be part of one: the real thing lists anew then."""
        try:
            event = self._decoders[resource].line(line)
        except (Garbled, ApiError):
            return False
        if event.change is not None:
            self._caches[resource].apply(event.change)
        return True

    def sync(self, *, everything: bool = False) -> None:
        names, self._marks = self._marks | ({RESYNC} if everything else set()), self._marks
        try:
            self.rig.sync(*names)
        except SyncFailed as error:
            for name, reason in error.failures.items():
                self._trouble.service(name, reason)
        self._marks.clear()
        for name, error in self.rig.syncer.invalid.items():
            self._trouble.service(name, error)

    def messages(self, name: str = "") -> list[str]:
        """What was told, about objects of that name."""
        return [event.message for event in self.events if not name or event.about.name.startswith(name)]

    def table(self) -> dict[str, str]:
        """What stands in the table and what it leads to; not the neighbour's."""
        found = drift.meanings(restart.read(self.rig.table, RULESET).state)
        return {place: meaning for place, meaning in found.items() if "10.96.0.99" not in place}

    @property
    def is_good_served(self) -> bool:
        state = restart.read(self.rig.table, RULESET).state
        return drift.meanings(state).get("single-endpoint 10.96.0.99 . tcp . 80") == "10.244.0.99:8080 (hairpin)"
