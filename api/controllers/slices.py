"""Which EndpointSlices a Service should have: pure, and as close as possible to those it has.

Every write of a slice goes to every node, so a plan changes as few as it can. Endpoints stay in their slice and at
their place; new ones go where a write is due anyway, then where all of them fit; a slice no longer needed for its ports
is turned over to other ports before a new one is made, so a changed targetPort is one write without a gap. The same
Service, pods and slices give the same plan whatever order they come in, and the plan for a planned state is empty.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from api.controllers import endpoints
from api.controllers.endpoints import Ports
from api.controllers.writes import Writes
from api.model import Object
from api.resources.endpointslice import MANAGED_BY, SERVICE_NAME
from api.resources.service import needs
from kube.resources import ENDPOINT_SLICES, SERVICES

MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MOST_ENDPOINTS = 100

# Five characters and a dash follow in a generated name, and a name's label holds 63.
_LONGEST_PREFIX = 57

Group = Mapping[str, Object]
"""Endpoints by their pod's name."""


@dataclass(slots=True)
class _Draft:
    """One slice while it is being planned."""

    family: str
    origin: Object | None = None
    ports: Ports = ()
    endpoints: list[Object] = field(default_factory=list)

    @property
    def room(self) -> int:
        return MOST_ENDPOINTS - len(self.endpoints)

    @property
    def is_touched(self) -> bool:
        return self.origin is None or self.endpoints != self.origin.get("endpoints")


def plan(
    service: Object | None,
    pods: Iterable[Object],
    slices: Iterable[Object],
    *,
    zones: Mapping[str, str],
    changed_at: str,
) -> Writes:
    """What to write so that the slices we manage hold the Service's pods; `slices` are all those that name it."""
    ours = sorted(filter(_is_ours, slices), key=_name)
    if service is None or service["spec"].get("type") == "ExternalName":
        return Writes(delete=tuple(ours))
    if not service["spec"].get("selector"):
        return Writes()
    pods, families = list(pods), service["spec"]["ipFamilies"]
    drafts: list[_Draft] = []
    unneeded = [_draft(piece) for piece in ours if piece.get("addressType") not in families]
    for family in families:
        held = [_draft(piece) for piece in ours if piece.get("addressType") == family]
        arranged, spare = _arrange(family, _wanted(service, pods, family, zones), held)
        drafts += arranged
        unneeded += spare
    return Writes(
        create=tuple(_render(draft, service, changed_at) for draft in drafts if draft.origin is None),
        replace=tuple(_render(draft, service, changed_at) for draft in drafts if _is_changed(draft, service)),
        delete=tuple(draft.origin for draft in unneeded if draft.origin is not None),
    )


def _is_ours(piece: Object) -> bool:
    metadata = piece["metadata"]
    return metadata.get("labels", {}).get(MANAGED_BY) == MANAGER and "deletionTimestamp" not in metadata


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _draft(piece: Object) -> _Draft:
    """An existing slice; its address type, the family, can never change."""
    return _Draft(str(piece.get("addressType", "")), piece, _ports_of(piece), list(piece.get("endpoints", [])))


def _wanted(service: Object, pods: Iterable[Object], family: str, zones: Mapping[str, str]) -> dict[Ports, Group]:
    """The Service's endpoints of a family, together with those that listen on the same ports."""
    wanted: dict[Ports, dict[str, Object]] = {}
    for pod in sorted((pod for pod in pods if endpoints.is_endpoint(pod, family)), key=_name):
        zone = zones.get(pod.get("spec", {}).get("nodeName", ""), "")
        group = wanted.setdefault(endpoints.ports(service, pod), {})
        group[_name(pod)] = endpoints.endpoint(service, pod, family, zone)
    return {ports: wanted[ports] for ports in sorted(wanted)}


def _arrange(family: str, wanted: Mapping[Ports, Group], held: Sequence[_Draft]) -> tuple[list[_Draft], list[_Draft]]:
    """The slices of a family to have, and those there are too many."""
    kept: dict[Ports, list[_Draft]] = {ports: [] for ports in wanted}
    spare: list[_Draft] = []
    for draft in held:
        kept.get(draft.ports, spare).append(draft)
    missing = {ports: _retain(kept[ports], group) for ports, group in wanted.items()}
    # Before any is turned over to other ports: then it has endpoints again, but not of its old ports.
    usable = {ports: [draft for draft in drafts if draft.endpoints] for ports, drafts in kept.items()}
    spare += [draft for drafts in kept.values() for draft in drafts if not draft.endpoints]
    drafts: list[_Draft] = []
    for ports, rest in missing.items():
        left = _fill(rest, usable[ports])
        drafts += usable[ports]
        while left:
            fresh = _emptied(family, spare)
            fresh.ports = ports
            left = _put(left, fresh)
            drafts.append(fresh)
    # An empty slice says "no endpoints", which is not the same as "not looked at yet".
    return drafts or [_emptied(family, spare)], spare


def _retain(drafts: Sequence[_Draft], group: Group) -> list[Object]:
    """Bring the endpoints that are where they should be up to date, drop the others; returns those without a place."""
    missing = dict(group)
    for draft in drafts:
        names = [str(endpoint.get("targetRef", {}).get("name", "")) for endpoint in draft.endpoints]
        draft.endpoints = [missing.pop(name) for name in names if name in missing]
    return list(missing.values())


def _fill(missing: list[Object], drafts: Sequence[_Draft]) -> list[Object]:
    """Find a place for each in the slices there are; returns those that are left."""
    for draft in drafts:
        if draft.is_touched:
            missing = _put(missing, draft)
    roomy = [draft for draft in drafts if draft.room >= len(missing) > 0]
    return _put(missing, min(roomy, key=lambda draft: draft.room)) if roomy else missing


def _put(missing: list[Object], draft: _Draft) -> list[Object]:
    """Fill the slice, and return what did not fit."""
    room = draft.room
    draft.endpoints = draft.endpoints + missing[:room]
    return missing[room:]


def _emptied(family: str, spare: list[_Draft]) -> _Draft:
    """A slice that is not needed for what it was, or a new one."""
    draft = spare.pop(0) if spare else _Draft(family)
    draft.endpoints = []
    return draft


def _ports_of(piece: Object) -> Ports:
    return tuple(tuple(sorted(port.items())) for port in piece.get("ports", []))


def _is_changed(draft: _Draft, service: Object) -> bool:
    origin = draft.origin
    if origin is None:
        return False
    metadata = origin["metadata"]
    return (
        draft.is_touched
        or draft.ports != _ports_of(origin)
        or metadata.get("labels") != _labels(service)
        or metadata.get("ownerReferences") != _owners(service)
    )


def _render(draft: _Draft, service: Object, changed_at: str) -> Object:
    metadata = dict(draft.origin["metadata"]) if draft.origin else _birth(service)
    metadata["labels"] = _labels(service)
    metadata["ownerReferences"] = _owners(service)
    metadata["annotations"] = metadata.get("annotations", {}) | {TRIGGER_TIME: changed_at}
    return {
        "kind": ENDPOINT_SLICES.kind,
        "apiVersion": ENDPOINT_SLICES.api_version,
        "metadata": metadata,
        "addressType": draft.family,
        "ports": [dict(port) for port in draft.ports],
        "endpoints": draft.endpoints,
    }


def _birth(service: Object) -> Object:
    metadata = service["metadata"]
    return {"generateName": f"{metadata['name'][:_LONGEST_PREFIX]}-", "namespace": metadata["namespace"]}


def _labels(service: Object) -> dict[str, str]:
    """The Service's own labels, and those that say whose slice this is."""
    metadata = service["metadata"]
    labels: dict[str, str] = metadata.get("labels", {}) | {SERVICE_NAME: metadata["name"], MANAGED_BY: MANAGER}
    labels.pop(HEADLESS, None)
    return labels | {HEADLESS: ""} if needs.is_headless(service["spec"]) else labels


def _owners(service: Object) -> list[Object]:
    metadata = service["metadata"]
    return [
        {
            "apiVersion": SERVICES.api_version,
            "kind": SERVICES.kind,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
