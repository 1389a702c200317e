"""The node and the cluster around the proxy as the API tells them: this one Node, and the ServiceCIDRs where there are any.

Heartbeats change a Node every few seconds; only what is different for packets is passed on.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from kube import objects
from kube.errors import ApiError, NotFound, Unreachable
from kube.http import Client
from kube.informer import Informer
from kube.resources import SERVICE_CIDRS
from proxy import here
from proxy.here import Here, Settings
from proxy.model import VERSIONS, Family

log = structlog.get_logger(__name__)

# ServiceCIDRs exist from Kubernetes 1.33 on; an API server may be replaced by one that has them.
_ASK_AGAIN_SECONDS: Final = 300.0
_UNREACHABLE_SECONDS: Final = 1.0
# kube-proxy's patience with its Node; Services must not wait for it longer.
_PATIENCE_SECONDS: Final = 30.0


class Surroundings:
    """Follows them from `start` to `stop`; `changed` is called when `look` has a new answer for any family, from any thread."""

    def __init__(
        self,
        client: Client,
        nodes: Informer[objects.Node],
        settings: Settings,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._client = client
        self._settings = settings
        self._changed = changed
        self._nodes = nodes
        self._service_cidrs: Informer[objects.ServiceCIDR] = Informer(client, SERVICE_CIDRS, objects.ServiceCIDR)
        self._node: objects.Node | None = None
        self._has_service_cidrs: bool | None = None
        self._stopping = threading.Event()
        self._seen = self._look_at_all()
        nodes.cache.subscribe(self._on_node)
        self._service_cidrs.cache.subscribe(lambda _, __: self._compare())
        self._thread = threading.Thread(target=self._find_service_cidrs, name="service-cidrs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._service_cidrs.stop()

    def look(self, family: Family) -> Here:
        """What is known now."""
        cidrs = self._service_cidrs.cache.snapshot().values()
        return here.look(self._settings, self._node, cidrs, family)

    def _look_at_all(self) -> tuple[Here, ...]:
        return tuple(self.look(family) for family in VERSIONS)

    def wait(self) -> None:
        """Return when all has been told, or when it takes too long."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._is_known and not self._stopping.wait(0.05):
            if time.monotonic() > deadline:
                log.warning("this Node is not known; its node ports and pods are not either", node=self._settings.node)
                return

    @property
    def _is_known(self) -> bool:
        return self._nodes.cache.synced.is_set() and (
            self._has_service_cidrs is False or self._service_cidrs.cache.synced.is_set()
        )

    def _on_node(self, _old: objects.Node | None, new: objects.Node | None) -> None:
        # A Node that is deleted and registered again keeps its ports and pods meanwhile.
        self._node = new or self._node
        self._compare()

    def _compare(self) -> None:
        before, self._seen = self._seen, self._look_at_all()
        if before != self._seen:
            addresses = (address for seen in self._seen for address in seen.addresses)
            log.info("this node is another", addresses=" ".join(map(str, addresses)), zone=self._seen[0].zone)
            self._changed()

    def _find_service_cidrs(self) -> None:
        """Follow ServiceCIDRs as soon as the API server has them: an informer alone would complain all the time."""
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                self._client.list(SERVICE_CIDRS, query={"limit": "1"})
            except ApiError as error:
                self._without_service_cidrs(error)
                wait = _ASK_AGAIN_SECONDS
            except Unreachable:
                wait = _UNREACHABLE_SECONDS
            else:
                self._has_service_cidrs = True
                self._service_cidrs.start()
                return

    def _without_service_cidrs(self, error: ApiError) -> None:
        if self._has_service_cidrs is None:
            write = log.info if isinstance(error, NotFound) else log.warning
            write("there are no ServiceCIDRs: unallocated cluster IPs are not dropped", reason=str(error))
        self._has_service_cidrs = False
