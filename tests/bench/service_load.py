"""Services into the kernel: the proxy's own path from API objects to the commit, against stock `nft -f` with
kube-proxy's layout of the same cluster. Rendering and encoding count on our side; on the peer's, only loading."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import Family
from kube import objects
from proxy.model import ServiceName
from proxy.planning import Planner
from proxy.ruleset import Ruleset
from proxy.sync import RESYNC, Syncer
from tests import namespaces
from tests.bench import baseline, cluster
from tests.bench.timing import Comparison, compare, timed

TITLE = "Services × 5 endpoints, from nothing to committed"
ENDPOINTS = 5
LOADS = ((1_000, 5), (5_000, 3), (10_000, 1))
CHANGES_AT = 5_000


class GeneratedCluster:
    """Implements `planning.Source` for the numbered Services of `cluster`."""

    def __init__(self, services: int) -> None:
        self._numbers = {ServiceName("default", f"service-{number}"): number for number in range(services)}
        self._shift: dict[ServiceName, int] = {}

    def names(self) -> Iterable[ServiceName]:
        return self._numbers

    def service(self, name: ServiceName) -> objects.Service | None:
        return objects.Service(
            metadata=objects.ObjectMeta(name=name.name, namespace=name.namespace),
            spec=objects.ServiceSpec(
                cluster_ip=str(cluster.cluster_ip(self._numbers[name])), ports=(objects.ServicePort(port=80),)
            ),
        )

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]:
        targets = cluster.endpoints(self._numbers[name], ENDPOINTS)
        last = targets[-1].address + self._shift.get(name, 0)
        addresses = [target.address for target in targets[:-1]] + [last]
        yield objects.EndpointSlice(
            metadata=objects.AnnotatedMeta(name=name.name, namespace=name.namespace),
            endpoints=tuple(objects.Endpoint(addresses=(str(address),)) for address in addresses),
            ports=(objects.EndpointPort(port=8080),),
        )

    def move_last_endpoint(self, name: ServiceName) -> None:
        """Give the Service's last endpoint an address no other has."""
        self._shift[name] = self._shift.get(name, 1 << 20) + 1


def measure() -> Iterator[Comparison]:
    for services, rounds in LOADS:
        yield compare(
            f"{services:,} Services loaded",
            lambda n=services: _ours(n),
            lambda n=services: _peer(n),
            rounds=rounds,
            warmup=int(rounds > 1),
        )
    yield _one_change()


@contextmanager
def _syncer(source: GeneratedCluster) -> Iterator[Syncer]:
    with namespaces.namespace("bench") as place, ExitStack() as stack:
        file = stack.enter_context(open(place.path))
        yield Syncer(
            LinuxNft(Ruleset(Family.IP).table, netns_fd=file.fileno()),
            Ruleset(Family.IP),
            Planner(source, node="bench", family="IPv4"),
            later=lambda _key, _seconds: None,
            expect_udp=lambda _frontend, _targets: None,
        )


def _ours(services: int) -> float:
    with _syncer(GeneratedCluster(services)) as syncer:
        return timed(lambda: syncer.sync(frozenset({RESYNC})))


def _peer(services: int) -> float:
    ruleset = baseline.ruleset(services, ENDPOINTS)
    with namespaces.namespace("bench") as place:
        return timed(lambda: place.run("nft", "-f", "-", stdin=ruleset))


def _one_change() -> Comparison:
    """One endpoint of one Service gets another address; the peer rewrites that Service's one rule, as kube-proxy does."""
    source = GeneratedCluster(CHANGES_AT)
    with _syncer(source) as syncer, namespaces.namespace("bench") as place:
        syncer.sync(frozenset({RESYNC}))
        place.run("nft", "-f", "-", stdin=baseline.ruleset(CHANGES_AT, ENDPOINTS))
        name = ServiceName("default", "service-7")

        def ours() -> float:
            source.move_last_endpoint(name)
            return timed(lambda: syncer.sync(frozenset({name})))

        def peer() -> float:
            return timed(lambda: place.run("nft", "-f", "-", stdin=baseline.rewrite(7, ENDPOINTS)))

        return compare(f"1 endpoint changed among {CHANGES_AT:,} Services", ours, peer, rounds=10)
