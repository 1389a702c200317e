"""Who has an address that two Services want: the older one, as the API dates it, whatever the names and the order."""

import msgspec
import pytest

from kube import objects
from kube.control import SyncFailed
from proxy.sync import RESYNC
from proxy.tracing.desired import desired
from tests.address_plan import IPV4
from tests.proxy_reading import Front
from tests.services import endpoint_slice, service
from tests.unit.test_proxy_sync import Rig

SHARED = Front("203.0.113.1", "TCP", 80)


def claiming(name: str, cluster_ip: str, created: str) -> objects.Service:
    made = service(name, cluster_ip, external_ips=(SHARED.cluster_ip,))
    return msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, creation_timestamp=created))


OLD = claiming("web", "10.96.0.10", "2026-01-01T00:00:00Z"), endpoint_slice("web", ["10.244.0.2"])
THIEF = claiming("a-thief", "10.96.0.11", "2026-02-02T00:00:00Z"), endpoint_slice("a-thief", ["10.244.0.3"])


@pytest.fixture
def rig() -> Rig:
    """Both are there, the older one first."""
    made = Rig()
    made.sync(made.world.put(*OLD))
    with pytest.raises(SyncFailed, match="default/a-thief"):
        made.sync(made.world.put(*THIEF))
    return made


def test_a_later_service_does_not_take_an_address_over(rig):
    assert rig.read().ways[SHARED].targets == {"10.244.0.2:8080"}


def test_nor_does_it_at_a_restart(rig):
    rig.restart()
    with pytest.raises(SyncFailed, match="default/a-thief"):
        rig.sync(RESYNC)

    assert rig.read().ways[SHARED].targets == {"10.244.0.2:8080"}
    assert Front("10.96.0.10", "TCP", 80) in rig.read().ways


def test_nor_when_the_table_is_made_anew(rig):
    rig.table.delete_table()
    rig.restart()
    with pytest.raises(SyncFailed, match="default/a-thief"):
        rig.sync(RESYNC)

    assert rig.read().ways[SHARED].targets == {"10.244.0.2:8080"}


def test_explaining_follows_the_same_rule(rig):
    wanted = desired(rig.world, IPV4.here, IPV4.ruleset, "IPv4")

    assert [str(name) for name in wanted.not_served] == ["default/a-thief"]
