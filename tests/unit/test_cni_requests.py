"""What a runtime asks for one attachment, and which of three ways of asking counts."""

import msgspec
import pytest

from cni import conf
from tests.cni_node import FakeNode

FIRST, SECOND, THIRD = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


@pytest.mark.parametrize(
    ("changes", "arguments", "mac"),
    [
        ({"runtimeConfig": {"mac": FIRST}, "args": {"cni": {"mac": SECOND}}}, f"MAC={THIRD}", FIRST),
        ({"args": {"cni": {"mac": SECOND, "labels": [{"key": "a"}]}}}, f"MAC={THIRD}", SECOND),
        ({}, f"MAC={THIRD}", THIRD),
        ({}, "MAC=02-00-00-00-00-0A", "02:00:00:00:00:0a"),
        ({"runtimeConfig": None, "args": None}, "", "0a:58:0a:f4:01:02"),
    ],
    ids=["runtimeConfig", "args.cni", "CNI_ARGS", "CNI_ARGS with dashes", "nobody"],
)
def test_the_newest_way_of_asking_for_a_mac_counts(node, changes, arguments, mac):
    pod = node.pod("web")
    answer = node.call("ADD", pod, env={"CNI_ARGS": arguments}, **changes)
    assert (answer["interfaces"][2]["mac"], pod.netlink.link("eth0").mac) == (mac, mac)


def test_check_after_an_add_with_a_mac_is_silent(node):
    pod, wanted = node.pod("web"), {"runtimeConfig": {"mac": FIRST}}
    answer = node.call("ADD", pod, **wanted)
    del answer["exit"]
    assert node.call("CHECK", pod, prevResult=answer, **wanted) == {"exit": 0}


@pytest.mark.parametrize("aliases", [["db", "db.local"], {"net": ["db", "db.local"], "other": ["no"]}])
def test_aliases_show_at_the_interface(node, aliases):
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"aliases": aliases})
    assert node.netlink.link(answer["interfaces"][1]["name"]).alias == "web/eth0 (db, db.local)"


def test_name_servers_of_the_runtime_take_the_place_of_the_configurations(node):
    given = {"servers": ["192.0.2.53"], "searches": ["svc.local"], "options": []}
    dns = {"nameservers": ["10.96.0.10"], "options": ["ndots:5"]}
    answer = node.call("ADD", node.pod("web"), dns=dns, runtimeConfig={"dns": given})
    assert answer["dns"] == {"nameservers": ["192.0.2.53"], "search": ["svc.local"], "options": ["ndots:5"]}


def test_deleting_minds_no_request(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    assert node.call("DEL", pod, env={"CNI_ARGS": "IP=x;MAC=y"}, runtimeConfig={"mac": 7}) == {"exit": 0}


WANTED = "10.244.1.77"


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"runtimeConfig": {"ips": [f"{WANTED}/24"]}}, ""),
        ({"args": {"cni": {"ips": [WANTED]}}}, ""),
        ({}, f"IP={WANTED}"),
        ({"runtimeConfig": {"ips": [WANTED]}}, f"IgnoreUnknown=1;FOO=bar;IP={WANTED}"),
    ],
)
def test_an_address_asked_for_is_given_and_stands_in_the_pod(node, changes, arguments):
    pod = node.pod("web")
    answer = node.call("ADD", pod, env={"CNI_ARGS": arguments}, **changes)
    assert answer["ips"][0]["address"] == f"{WANTED}/24"
    assert [str(held.interface) for held in pod.netlink.addresses("eth0")] == [f"{WANTED}/24"]


def test_an_address_somebody_has_is_refused_with_the_owners_name(node):
    node.call("ADD", node.pod("first"), runtimeConfig={"ips": [WANTED]})
    answer = node.call("ADD", node.pod("second"), runtimeConfig={"ips": [WANTED]})
    assert (answer["code"], WANTED in answer["msg"], "first/eth0" in answer["msg"]) == (105, True, True)
    assert list(node.leased()) == ["first"]


def test_an_address_of_a_vanished_pod_can_be_asked_for(node):
    pod = node.pod("first")
    node.call("ADD", pod, runtimeConfig={"ips": [WANTED]})
    node.vanish(pod)
    assert node.call("ADD", node.pod("second"), runtimeConfig={"ips": [WANTED]})["ips"][0]["address"] == f"{WANTED}/24"


@pytest.mark.parametrize("outside", ["192.0.2.1", "10.244.1.1"], ids=["another network", "the gateway"])
def test_an_address_the_pool_does_not_give_is_refused_and_nothing_is_left(node, outside):
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"ips": [outside]})
    assert (answer["code"], f"{outside} cannot be given" in answer["msg"], node.leased()) == (7, True, {})


def test_ranges_of_the_runtime_are_given_from(node):
    ipam = {"type": "podwire-ipam"}
    ranges = [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.50"}]]
    answer = node.call("ADD", node.pod("web"), ipam=ipam, runtimeConfig={"ipRanges": ranges})
    assert answer["ips"][0]["address"] == "10.5.0.50/24"


def test_a_bad_range_of_the_runtime_is_named(node):
    answer = node.call(
        "ADD", node.pod("web"), ipam={"type": "podwire-ipam"}, runtimeConfig={"ipRanges": [[{"subnet": "x"}]]}
    )
    assert (answer["code"], "runtimeConfig.ipRanges[0][0].subnet='x'" in answer["msg"]) == (7, True)


def test_containerds_spelling_of_what_it_wants_is_understood():
    """Its Go structs have no JSON names: HostPort for hostPort. Names that are data keep their capitals."""
    wishes = {
        "portMappings": [{"HostPort": 9090, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 8000, "IngressBurst": 8000},
        "dns": {"Servers": ["10.96.0.10"], "Searches": [], "Options": []},
        "ipRanges": [[{"Subnet": "10.244.1.0/24", "RangeStart": "10.244.1.9"}]],
        "aliases": {"Net": ["DB"]},
    }

    asked = conf.decode(msgspec.json.encode({"runtimeConfig": wishes}))["runtimeConfig"]

    assert asked == {
        "portMappings": [{"hostPort": 9090, "containerPort": 8080, "protocol": "tcp", "hostIP": ""}],
        "bandwidth": {"ingressRate": 8000, "ingressBurst": 8000},
        "dns": {"servers": ["10.96.0.10"], "searches": [], "options": []},
        "ipRanges": [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9"}]],
        "aliases": {"Net": ["DB"]},
    }
