"""The result's shape in each version of the specification."""

import pytest

from tests.cni_node import FakeNode


@pytest.fixture
def add(tmp_path):
    node = FakeNode(tmp_path / "state")
    return lambda **changes: node.call("ADD", node.pod("web"), **changes)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_flat_shape(add, version):
    assert add(cniVersion=version) == {
        "cniVersion": version,
        "ip4": {"ip": "10.244.1.2/24", "gateway": "10.244.1.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "dns": {},
        "exit": 0,
    }


def test_configuration_without_a_version_gets_the_flat_shape(add):
    assert add(cniVersion=None)["ip4"]["ip"] == "10.244.1.2/24"


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_addresses_say_their_family_before_1_0_0(add, version):
    expected = {"version": "4", "address": "10.244.1.2/24", "interface": 2, "gateway": "10.244.1.1"}
    assert add(cniVersion=version)["ips"] == [expected]


def test_addresses_do_not_say_their_family_since_1_0_0(add):
    assert add()["ips"] == [{"address": "10.244.1.2/24", "interface": 2, "gateway": "10.244.1.1"}]


def test_interfaces_say_their_mtu_since_1_1_0(add):
    assert [interface["mtu"] for interface in add(cniVersion="1.1.0", mtu=1400)["interfaces"]] == [1400, 1400, 1400]


def test_what_earlier_plugins_say_is_passed_on_whole(add):
    route = {"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1260, "priority": 7, "table": 100, "scope": 253}
    interface = {
        "name": "hw0",
        "mac": "02:00:00:00:00:07",
        "mtu": 9000,
        "socketPath": "/run/s",
        "pciID": "0000:00:1f.6",
    }
    answer = add(cniVersion="1.1.0", prevResult={"interfaces": [interface], "routes": [route]})
    assert (answer["interfaces"][0], answer["routes"][0]) == (interface, route)


def test_dns_of_the_configuration_is_passed_on(add):
    assert add(dns={"nameservers": ["10.96.0.10"], "search": []})["dns"] == {"nameservers": ["10.96.0.10"]}


def test_routes_of_the_configuration_replace_the_default_one_only_when_they_say_so(add):
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [{"dst": "192.0.2.0/24"}]}
    assert add(ipam=ipam)["routes"] == [{"dst": "192.0.2.0/24"}, {"dst": "0.0.0.0/0"}]


def test_no_default_route_without_a_default_gateway(add):
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]}
    assert add(ipam=ipam, isDefaultGateway=False)["routes"] == []


FULL = {"dst": "192.0.2.0/24", "gw": "10.244.1.9", "mtu": 1300, "advmss": 1260, "priority": 7, "table": 100, "scope": 0}


@pytest.mark.parametrize(
    ("version", "shown"), [("1.1.0", FULL), ("1.0.0", {"dst": "192.0.2.0/24", "gw": "10.244.1.9"})]
)
def test_routes_say_what_they_ask_for_since_1_1_0(add, version, shown):
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [FULL]}
    assert add(cniVersion=version, ipam=ipam)["routes"][0] == shown


@pytest.mark.parametrize(("key", "value"), [("mtu", -1), ("priority", 1 << 32), ("table", "main"), ("scope", 7)])
def test_a_bad_option_of_a_route_is_named(add, key, value):
    route = {"dst": "192.0.2.0/24", key: value}
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [route]}
    answer = add(cniVersion="1.1.0", ipam=ipam)
    assert (answer["code"], f"ipam.routes[0].{key}={value!r}" in answer["msg"]) == (7, True)
