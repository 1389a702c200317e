"""The proxy's threads together, on a table in memory and an API that answers when told to."""

import threading
from collections.abc import Iterator

import msgspec
import pytest

from dataplane.errors import DataplaneError
from dataplane.nft.fake import FakeMonitor
from dataplane.nft.interface import Change
from kube.errors import NotFound, Unreachable
from proxy.here import Settings
from proxy.program import Proxy
from tests.proxy_reading import Front, Reading
from tests.services import RULESET, FakeTable, endpoint_slice, service
from tests.waiting import eventually

WEB = Front("10.96.0.10", "TCP", 80)


class Stream:
    """A watch on which nothing happens."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self._stopped.wait(120)
        return iter(())

    def stop(self) -> None:
        self._stopped.set()

    close = stop


class Api:
    """Lists by plural; a collection that is not there does not answer."""

    def __init__(self, **collections: list) -> None:
        self.collections = {"nodes": [], **collections}
        self.asked: list[str] = []
        self.created: list[dict] = []
        self.selectors: dict = {}

    def list(self, resource, _namespace=None, *, label_selector=None, field_selector=None, query=None) -> bytes:
        self.asked.append(resource.plural)
        if resource.plural == "servicecidrs" and resource.plural not in self.collections:
            raise NotFound("the server could not find the requested resource")
        self.selectors[resource.plural] = (str(label_selector), str(field_selector))
        if resource.plural not in self.collections:
            raise Unreachable("http://api", "not today")
        items = msgspec.json.encode(self.collections[resource.plural]).decode()
        return f'{{"metadata": {{"resourceVersion": "7"}}, "items": {items}}}'.encode()

    def create(self, _resource, body, _namespace=None) -> bytes:
        self.created.append(body)
        return b"{}"

    def watch(self, *_arguments, **_options) -> Stream:
        return Stream()


class NoFlows:
    def flows(self, version, protocol, **_which):
        return ()

    def delete(self, flow) -> bool:
        return False

    def set_mark(self, flow, mark) -> bool:
        return False

    def send(self, sender, receiver) -> None:
        raise AssertionError(f"nobody is to be probed: {sender} {receiver}")


class WatchedTable(FakeTable):
    def __init__(self) -> None:
        super().__init__()
        self.watcher = FakeMonitor()

    def monitor(self) -> FakeMonitor:
        return self.watcher


@pytest.fixture
def start() -> Iterator:
    started: list[Proxy] = []

    def start_proxy(api: Api, table: FakeTable) -> Proxy:
        proxy = Proxy(api, [table], NoFlows(), Settings(node="node1"), probe=NoFlows())
        started.append(proxy)
        proxy.start()
        return proxy

    yield start_proxy
    for proxy in started:
        proxy.stop()


def web() -> dict:
    return {"services": [service()], "endpointslices": [endpoint_slice("web", ["10.244.0.2", "10.244.0.3"])]}


def is_served(table: FakeTable) -> bool:
    return table.table_exists() and WEB in Reading(table).ways


@pytest.mark.parametrize("missing", ["services", "endpointslices"])
def test_nothing_is_written_before_all_has_been_listed(start, missing):
    api, table = Api(**web()), WatchedTable()
    late = api.collections.pop(missing)
    proxy = start(api, table)
    eventually(lambda: api.asked.count(missing) > 2)
    assert (table.loaded, table.committed) == ([], [])
    assert not proxy.health.is_healthy
    api.collections[missing] = late

    assert eventually(lambda: is_served(table))
    assert eventually(lambda: proxy.health.is_healthy)


def test_the_api_is_asked_for_what_the_proxy_serves(start):
    api, table = Api(**web()), WatchedTable()
    start(api, table)
    eventually(lambda: len(api.selectors) == 3)

    assert api.selectors == {
        "services": ("!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"),
        "endpointslices": ("!service.kubernetes.io/headless", "None"),
        "nodes": ("None", "metadata.name=node1"),
    }


def test_an_api_server_without_service_cidrs_is_no_trouble(start, capsys):
    api, table = Api(**web()), WatchedTable()
    start(api, table)
    assert eventually(lambda: is_served(table))
    said = eventually(lambda: [line for line in capsys.readouterr().out.splitlines() if "no ServiceCIDRs" in line])

    assert "warning" not in said[0]


def change(table: str, **who) -> Change:
    said = {"port_id": 1, "process_id": 99, "command": "nft", "what": frozenset({"delete table"}), **who}
    return Change(table=table, family=int(RULESET.table.family), **said)


@pytest.mark.parametrize("told", ["podwire-proxy", ""], ids=["ours", "events lost"])
def test_a_table_somebody_deleted_is_made_again(start, told):
    api, table = Api(**web()), WatchedTable()
    start(api, table)
    eventually(lambda: is_served(table))
    table.delete_table()
    table.watcher.report(change(told))

    assert eventually(lambda: is_served(table))


def test_it_is_logged_who_changed_the_table(start, capsys):
    api, table = Api(**web()), WatchedTable()
    start(api, table)
    eventually(lambda: is_served(table))
    table.watcher.report(change("podwire-proxy", command="firewalld"))

    said = eventually(lambda: [line for line in capsys.readouterr().out.splitlines() if "somebody else" in line])
    assert "firewalld" in said[0]
    assert "99" in said[0]


def test_changes_to_other_tables_are_none_of_our_business(start, capsys):
    api, table = Api(**web()), WatchedTable()
    start(api, table)
    eventually(lambda: is_served(table))
    table.watcher.report(change("other"))
    table.watcher.report(change("podwire-proxy", command="last"))
    said = eventually(lambda: [line for line in capsys.readouterr().out.splitlines() if "somebody else" in line])

    assert len(said) == 1
    assert "last" in said[0]


def test_an_event_says_that_the_proxy_starts_and_which_field_of_a_service_is_bad(start):
    bad = service("bad", "10.96.0.300")
    api, table = Api(**{**web(), "services": [service(), bad]}), WatchedTable()
    start(api, table)
    eventually(lambda: len(api.created) > 1)

    assert [(event["reason"], event["involvedObject"]["name"]) for event in api.created] == [
        ("Starting", "node1"),
        ("InvalidService", "bad"),
    ]
    assert "spec.clusterIP '10.96.0.300'" in api.created[1]["message"]
    assert eventually(lambda: is_served(table))


def test_an_event_says_which_wish_for_connections_cannot_be(start):
    given = {"services": [service(on_removal="soon")], "endpointslices": [endpoint_slice("web", ["10.244.0.2"])]}
    api, table = Api(**given), WatchedTable()
    start(api, table)
    told = eventually(lambda: [event for event in api.created if event["reason"] == "InvalidAnnotation"])

    assert (
        "Service default/web: metadata.annotations[podwire.dev/on-endpoint-removal] 'soon': must be keep"
        in (told[0]["message"])
    )
    assert eventually(lambda: is_served(table))


def test_an_object_that_cannot_be_decoded_gets_an_event_naming_the_field(start):
    garbled = {"metadata": {"name": "bad", "namespace": "default", "uid": "u1"}, "spec": {"ports": [{"port": "x"}]}}
    api, table = Api(**{**web(), "services": [service(), garbled]}), WatchedTable()
    start(api, table)
    told = eventually(lambda: [event for event in api.created if event["reason"] == "UnreadableService"])

    assert told[0]["involvedObject"]["uid"] == "u1"
    assert "$.spec.ports[0].port" in told[0]["message"]
    assert eventually(lambda: is_served(table))


def test_the_proxys_own_trouble_is_told_on_its_node(start):
    api = Api(**web())
    start(api, WatchedTable()).warn("FailedToStartMetricServer", "taken")
    told = eventually(lambda: [event for event in api.created if event["type"] == "Warning"])

    assert told[0]["involvedObject"]["kind"] == "Node"
    assert told[0]["reason"] == "FailedToStartMetricServer"


class FailingOnce(FakeMonitor):
    """Loses its connection to the kernel at first."""

    failed = False

    def changes(self) -> Iterator[Change]:
        if not self.failed:
            self.failed = True
            raise DataplaneError("receive nftables notices", 5)
        yield from super().changes()


def test_the_table_is_defended_again_after_its_watch_failed(start):
    api, table = Api(**web()), WatchedTable()
    table.watcher = FailingOnce()
    start(api, table)
    eventually(lambda: is_served(table))
    table.delete_table()
    table.watcher.report(Change(table="", family=0, port_id=0, process_id=0, command="", what=frozenset()))

    assert eventually(lambda: is_served(table))


@pytest.mark.parametrize(
    "series",
    [
        "network_programming_duration_seconds_count",
        "conntrack_reconciler_sync_duration_seconds_count",
        "conntrack_reconciler_deleted_entries_total",
        "sync_proxy_rules_nftables_cleanup_failures_total",
    ],
)
def test_figures_beside_the_rounds_are_there_by_family(start, series):
    api, table = Api(**web()), WatchedTable()
    proxy = start(api, table)
    assert eventually(lambda: f'kubeproxy_{series}{{ip_family="IPv4"}}' in proxy.metrics.expose().decode())
