"""The whole table as the API wants it on one node: what the proxy would write, made by the proxy's own code."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

import msgspec

from proxy import model
from proxy import state as states
from proxy.cluster_ips import ClusterIPs
from proxy.here import Here
from proxy.model import Endpoint, Family, InvalidService, ServiceName, ServicePort
from proxy.planning import Planner, Source
from proxy.ruleset import NodeText, Ruleset
from proxy.served import NOT_SERVED, Draft
from proxy.state import State
from proxy.tracing import parsing
from proxy.tracing.packet import Host
from proxy.tracing.statements import Chain


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """`not_served` says why of the Services that are left out."""

    here: Here
    state: State
    chains: Mapping[str, Chain]
    ports: tuple[ServicePort, ...]
    source: Source
    not_served: Mapping[ServiceName, Exception] = {}

    def endpoints(self, port: ServicePort) -> tuple[Endpoint, ...]:
        return model.endpoints(self.source.slices(port.name.service), port)

    @property
    def host(self) -> Host:
        """The node as far as the API knows it: its addresses, and its own among its pods', the first of the podCIDR."""
        gateways = (network.network_address + 1 for network in self.here.pod_cidrs)
        return Host(addresses=frozenset((*self.here.addresses, *map(ip_address, gateways))))


def desired(source: Source, here: Here, ruleset: Ruleset, family: Family) -> Desired:
    """Draft every Service. One that cannot be served is named and costs the others nothing."""
    planner = Planner(source, node=here.node, family=family, look=lambda: here)
    claims = ClusterIPs()
    drafts: list[Draft] = []
    not_served: dict[ServiceName, Exception] = {}
    for name in sorted(source.names(), key=planner.precedence):
        try:
            draft = planner.draft(name, NOT_SERVED)
        except InvalidService as error:
            not_served[name] = error
            continue
        if draft and (taken := claims.claim(draft)):
            not_served[name] = taken
        elif draft:
            drafts.append(draft)
    timeouts = frozenset().union(*(draft.new.timeouts for draft in drafts))
    state = states.union(draft.new.state for draft in drafts)
    return Desired(
        here=here,
        state=state,
        chains=fixed_chains(ruleset, ruleset.node(here, has_node_ports=state.has_node_ports), timeouts),
        ports=tuple(_ports(source, (draft.name for draft in drafts), family)),
        source=source,
        not_served=not_served,
    )


def fixed_chains(ruleset: Ruleset, node: NodeText, timeouts: frozenset[int]) -> dict[str, Chain]:
    """The chains that stand still while Services change."""
    chains = parsing.chains(ruleset.skeleton) | parsing.chains(node.text)
    for seconds in sorted(timeouts):
        chains |= parsing.chains(ruleset.affinity_chains(seconds))
    return chains


def _ports(source: Source, names: Iterable[ServiceName], family: Family) -> Iterator[ServicePort]:
    for name in names:
        service = source.service(name)
        yield from model.service_ports(service, family) if service else ()
