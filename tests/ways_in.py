"""Every way into one Service and what clients meet there, with real packets in either address family.

The node, its pods and the clients are those of tests/service_node.py, the Service and its addresses those of
tests/packet_cases.py. In what is met, `own` is the client's own address, `node` one of the node's.
"""

from collections.abc import Iterable

from tests.packet_cases import PLACES
from tests.service_node import PATIENT, SILENCE, ServiceNode

BOTH_OWN, BOTH_NODE = {"a own", "remote own"}, {"a node", "remote node"}


def meet(node: ServiceNode, client: str, front: str, *, is_silent: bool = False) -> str:
    """What a client meets: `NAME own`, `NAME node`, refused or dropped. Silence is awaited only where it is expected."""
    plan = node.plan
    own = {**plan.pods, "outside": plan.outside, "remote": plan.remote}
    address, port = PLACES[plan.family].fronts[front]
    try:
        name, source = node.ask(client, address, port, timeout=SILENCE if is_silent else PATIENT).split()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "dropped"
    return f"{name} {'own' if source == own.get(client) else 'node'}"


def meets(node: ServiceNode, client: str, front: str) -> set[str]:
    """What two connections meet, one after the other."""
    return {meet(node, client, front) for _ in range(2)}


def meet_everywhere(
    node: ServiceNode, clients: Iterable[str], fronts: Iterable[str], *, is_silent: bool = False
) -> set[str]:
    """What any of these clients meets at any of these fronts."""
    wanted = tuple(fronts)
    return {meet(node, client, front, is_silent=is_silent) for client in clients for front in wanted}
