"""hostPorts in the kernel: looked at and changed in one piece, whoever else changes them at the same time.

Every change is made on the condition that nobody has changed the ruleset since the look; otherwise it is looked at
again. So two pods can never both get a port, on whatever network and from whichever process.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from cni import hostports
from cni.hostports import HAIRPIN, SETS, Held, Publication
from cni.spec import CniError, Code
from dataplane.conntrack import Flow
from dataplane.errors import NotFound
from dataplane.nft.interface import GenerationChanged, Nft
from dataplane.nft.objects import AddElements, DeleteElements, Operation

_ATTEMPTS = 50
_NOTHING: Held = dict.fromkeys(SETS, ())


class UdpFlows(Protocol):
    """What conntrack remembers."""

    def udp_flows(self, version: int) -> tuple[Flow, ...]: ...
    def delete(self, flow: Flow) -> bool: ...


def publish(nft: Nft, wanted: Publication) -> None:
    """Lead the ports to the pod. Raises PortTaken, and changes nothing then."""
    _ensure(nft)

    def plan(held: Held) -> list[Operation]:
        hostports.require_free(wanted, held)
        stale = hostports.of_veth(held, wanted.veth)
        return [*_operations(DeleteElements, stale), *_operations(AddElements, wanted.elements())]

    _change(nft, plan)


def withdraw(nft: Nft, is_unwanted: Callable[[hostports.Origin], bool]) -> Held:
    """Lead to no pod any more what belongs to unwanted ones; return it."""
    gone: Held = _NOTHING

    def plan(held: Held) -> list[Operation]:
        nonlocal gone
        gone = {name: [one for one in held[name] if is_unwanted(hostports.origin(one))] for name in SETS}
        return _operations(DeleteElements, gone)

    _change(nft, plan)
    return gone


def published(nft: Nft) -> Held:
    """Everything that is published on this node."""
    try:
        return {name: nft.elements(name) for name in SETS}
    except NotFound:
        return _NOTHING


def _ensure(nft: Nft) -> None:
    try:
        nft.elements(HAIRPIN)
    except NotFound:
        nft.load(hostports.render(nft.table.name))


def _change(nft: Nft, plan: Callable[[Held], list[Operation]]) -> None:
    for _ in range(_ATTEMPTS):
        generation = nft.generation()
        operations = plan(published(nft))
        if not operations:
            return
        try:
            nft.commit(operations, generation=generation)
        except GenerationChanged:
            continue
        return
    msg = f"the ruleset changed during each of {_ATTEMPTS} attempts to change hostPorts"
    raise CniError(Code.TRY_AGAIN_LATER, msg, "try again")


def _operations(kind: type[AddElements] | type[DeleteElements], elements: Held) -> list[Operation]:
    return [kind(name, tuple(elements[name])) for name in SETS if elements[name]]


def forget_old(flows: UdpFlows, wanted: Publication, node: Collection[object]) -> None:
    """Forget UDP flows to a port that now leads to this pod, and went elsewhere so far. `node`: the node's addresses."""
    ports = hostports.udp_ports(wanted.elements())
    if ports:
        _forget(flows, lambda flow: _meets(flow, ports, node) and flow.replier != wanted.pod)


def _meets(flow: Flow, ports: Collection[int], node: Collection[object]) -> bool:
    return flow.destination_port in ports and flow.destination in node


def forget_gone(flows: UdpFlows, gone: Held) -> None:
    """Forget UDP flows that were led to pods by ports they no longer have."""
    ports, pods = hostports.udp_ports(gone), hostports.pods(gone)
    if ports:
        _forget(flows, lambda flow: flow.destination_port in ports and flow.replier in pods)


def _forget(flows: UdpFlows, is_wrong: Callable[[Flow], bool]) -> None:
    for flow in flows.udp_flows(4):
        if is_wrong(flow):
            flows.delete(flow)
