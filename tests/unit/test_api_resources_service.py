"""Services: defaults, validation, transitions between types, and what kubectl prints."""

from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import pytest

from api.resources.service import ServiceStrategy
from kube.errors import BadRequest, Invalid

# Address plan: Services 10.96.0.0/16; its first address is default/kubernetes'.
CIDR = IPv4Network("10.96.0.0/16")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVICES = ServiceStrategy(service_cidrs=(CIDR,))


class Taken:
    """Claims as they are at one moment."""

    def __init__(self, **pools: set[str]) -> None:
        self._pools = pools

    def taken(self, pool: str) -> frozenset[str]:
        return frozenset(self._pools.get(pool, ()))


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    spec.setdefault("ports", [{"port": 80}])
    return SERVICES.default({"metadata": {"namespace": "default", "name": name}, "spec": spec})


def admitted(obj: dict[str, Any], old: dict[str, Any] | None = None, claims: Taken | None = None) -> dict[str, Any]:
    assert SERVICES.validate(obj, old) == []
    return SERVICES.admit(obj, old, claims or Taken()).obj


def claimed(obj: dict[str, Any], old: dict[str, Any] | None = None) -> set[tuple[str, str]]:
    return {(claim.pool, claim.value) for claim in SERVICES.admit(obj, old, Taken()).claims}


def complaints(obj: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
    return {error.field: str(error).removeprefix(f"{error.field}: ") for error in SERVICES.validate(obj, old)}


def changed(old: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The object after a merge patch of its spec; None removes."""
    merged = {key: value for key, value in (old["spec"] | spec).items() if value is not None}
    return SERVICES.default(old | {"spec": merged})


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({}, "type", "ClusterIP"),
        ({}, "sessionAffinity", "None"),
        ({}, "internalTrafficPolicy", "Cluster"),
        ({}, "ports", [{"port": 80, "protocol": "TCP", "targetPort": 80}]),
        (
            {"ports": [{"port": 80, "targetPort": "http"}]},
            "ports",
            [{"port": 80, "protocol": "TCP", "targetPort": "http"}],
        ),
        ({"sessionAffinity": "ClientIP"}, "sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}}),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, "sessionAffinityConfig", None),
        ({"type": "NodePort"}, "externalTrafficPolicy", "Cluster"),
        ({"externalIPs": ["192.0.2.1"]}, "externalTrafficPolicy", "Cluster"),
        ({}, "externalTrafficPolicy", None),
        ({"type": "LoadBalancer"}, "allocateLoadBalancerNodePorts", True),
        ({"type": "ExternalName", "externalName": "a.example"}, "internalTrafficPolicy", None),
        ({"clusterIP": None, "ports": [{"port": 80, "name": None}]}, "clusterIP", None),
    ],
)
def test_defaults_are_the_servers(given, field, expected):
    assert service(**given)["spec"].get(field) == expected


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        ({}, "ipFamilies", ["IPv4"]),
        ({}, "ipFamilyPolicy", "SingleStack"),
        ({"clusterIP": "10.96.0.9"}, "clusterIPs", ["10.96.0.9"]),
        ({"clusterIP": "None"}, "clusterIPs", ["None"]),
        ({"type": "ExternalName", "externalName": "a.example"}, "ipFamilies", None),
        ({"type": "ExternalName", "externalName": "a.example"}, "clusterIP", None),
    ],
)
def test_admission_completes_the_addresses(spec, field, expected):
    assert admitted(service(**spec))["spec"].get(field) == expected


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"ports": []}, "spec.ports", "Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        (
            {"ports": [{"port": 65536}]},
            "spec.ports[0].port",
            "Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"port": 80, "targetPort": 70000}]},
            "spec.ports[0].targetPort",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"port": 80, "targetPort": "-x"}]},
            "spec.ports[0].targetPort",
            "must not begin or end with a hyphen",
        ),
        ({"ports": [{"port": 80}, {"port": 81, "name": "b"}]}, "spec.ports[0].name", "Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            "spec.ports[1].name",
            'Duplicate value: "a"',
        ),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
            "spec.ports[1]",
            'Duplicate value: {"protocol":"TCP","port":80}',
        ),
        (
            {"ports": [{"port": 80, "protocol": "ICMP"}]},
            "spec.ports[0].protocol",
            'Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30080}]},
            "spec.ports[0].nodePort",
            "Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "Virtual"}, "spec.type", 'Unsupported value: "Virtual": supported values: "ClusterIP"'),
        (
            {"sessionAffinity": "Cookie"},
            "spec.sessionAffinity",
            'Unsupported value: "Cookie": supported values: "ClientIP", "None"',
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            "Invalid value: 0: must be greater than 0 and less than 86400",
        ),
        (
            {"clusterIP": "10.96.0.300"},
            "spec.clusterIPs[0]",
            'Invalid value: "10.96.0.300": must be a valid IP address',
        ),
        (
            {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.8"]},
            "spec.clusterIPs",
            'Invalid value: ["10.96.0.8"]: first value must match `clusterIP`',
        ),
        ({"clusterIPs": ["10.96.0.8"]}, "spec.clusterIPs", "must be empty when `clusterIP` is not specified"),
        (
            {"clusterIP": "None", "type": "NodePort"},
            "spec.clusterIPs[0]",
            "may not be set to 'None' for NodePort services",
        ),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]", 'Invalid value: "IPv6": not configured on this cluster'),
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            "spec.ipFamilyPolicy",
            "this cluster is not configured for dual-stack",
        ),
        ({"type": "ExternalName"}, "spec.externalName", "Required value"),
        (
            {"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.7"},
            "spec.clusterIPs",
            "Forbidden: may not be set for ExternalName services",
        ),
        ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", "may not be in the loopback range"),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "spec.loadBalancerSourceRanges",
            "may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/40"]},
            "spec.loadBalancerSourceRanges[0]",
            "must be a valid CIDR value",
        ),
        (
            {"externalTrafficPolicy": "Local"},
            "spec.externalTrafficPolicy",
            "may only be set for externally-accessible services",
        ),
        ({"internalTrafficPolicy": "Near"}, "spec.internalTrafficPolicy", 'Unsupported value: "Near"'),
        ({"selector": {"a b": "c"}}, "spec.selector", "name part must consist of alphanumeric characters"),
        ({"trafficDistribution": "Far"}, "spec.trafficDistribution", 'Unsupported value: "Far"'),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_reason(spec, field, said):
    assert said in complaints(service(**spec))[field]


def test_all_that_is_wrong_is_told_at_once():
    wrong = service("Web", ports=[{"port": 0}, {"port": 0, "protocol": "X"}], sessionAffinity="Y", type="Z")

    assert {
        "metadata.name",
        "spec.type",
        "spec.sessionAffinity",
        "spec.ports[0].port",
        "spec.ports[0].name",
        "spec.ports[1].protocol",
    } <= complaints(wrong).keys()


@pytest.mark.parametrize("name", ["1web", "Web", "web_", "-web", "w" * 64, "a.b"])
def test_a_name_must_be_a_dns_1035_label(name):
    assert "metadata.name" in complaints(service(name))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"spec": []}, "spec: Expected `object`, got `array`"),
        ({"spec": {"ports": {}}}, "spec.ports: Expected `array`, got `object`"),
        ({"spec": {"ports": [{"port": "80"}]}}, "spec.ports[0].port: Expected `int`, got `str`"),
        ({"spec": {"ports": [{"port": 2**40}]}}, "spec.ports[0].port: Expected `int` <= 2147483647"),
        ({"spec": {"selector": {"a": 1}}}, "spec.selector[...]: Expected `str`, got `int`"),
    ],
)
def test_a_field_of_the_wrong_type_is_a_bad_request_that_names_it(body, said):
    with pytest.raises(BadRequest, match='Service in version "v1" cannot be handled as a Service') as refused:
        SERVICES.default(body)
    assert said in refused.value.message


def test_the_input_is_never_changed():
    given = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    SERVICES.default(given)
    assert given == {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}


def test_a_cluster_ip_is_claimed():
    assert claimed(service(clusterIP="10.96.3.4")) == {("clusterips", "10.96.3.4")}


def test_an_address_is_found_inside_the_service_cidr():
    assert IPv4Network(admitted(service())["spec"]["clusterIP"]).subnet_of(CIDR)


def test_an_address_somebody_has_is_not_given():
    first = admitted(service())["spec"]["clusterIP"]
    assert admitted(service(), claims=Taken(clusterips={first}))["spec"]["clusterIP"] != first


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("10.96.0.5", "failed to allocate IP 10.96.0.5: provided IP is already allocated"),
        ("10.97.0.5", "not in the valid range. The range of valid IPs is 10.96.0.0/16"),
        ("10.96.0.0", "not in the valid range"),
        ("10.96.255.255", "not in the valid range"),
        ("10.96.0.1", "failed to allocate IP 10.96.0.1: it is kept for the Service default/kubernetes"),
    ],
)
def test_an_address_that_cannot_be_given_is_refused(wanted, said):
    with pytest.raises(Invalid, match=said) as refused:
        SERVICES.admit(service(clusterIP=wanted), None, Taken(clusterips={"10.96.0.5"}))
    assert [cause.field for cause in refused.value.causes] == ["spec.clusterIPs"]


def test_the_first_address_is_the_api_servers():
    assert admitted(service("kubernetes"))["spec"]["clusterIP"] == "10.96.0.1"


def test_fixed_low_addresses_are_given_out_last():
    names = [f"s{number}" for number in range(200)]
    lowest = min(IPv4Network(admitted(service(name))["spec"]["clusterIP"]) for name in names)
    assert lowest.network_address >= CIDR.network_address + 256


@pytest.mark.parametrize("kind", ["ExternalName", "Headless"])
def test_a_service_without_address_claims_nothing(kind):
    spec = {"clusterIP": "None"} if kind == "Headless" else {"type": kind, "externalName": "a.example"}
    assert claimed(service(**spec)) == set()


def test_an_update_that_leaves_the_address_out_keeps_it():
    old = admitted(service())
    new = changed(old, clusterIP=None, clusterIPs=None, ipFamilies=None, ipFamilyPolicy=None)
    assert admitted(new, old)["spec"] == old["spec"]


@pytest.mark.parametrize("address", ["10.96.9.9", "None"])
def test_an_address_may_not_change(address):
    old = admitted(service())
    assert complaints(changed(old, clusterIP=address), old)["spec.clusterIPs[0]"].endswith("may not change once set")


def test_becoming_external_name_lets_go_of_address_and_node_ports():
    old = admitted(service(type="NodePort"))
    new = changed(old, type="ExternalName", externalName="a.example")
    assert (
        admitted(new, old)["spec"].keys() & {"clusterIP", "clusterIPs", "ipFamilies", "externalTrafficPolicy"} == set()
    )
    assert claimed(new, old) == set()


def test_becoming_cluster_ip_lets_go_of_node_ports():
    old = admitted(service(type="NodePort"))
    new = changed(old, type="ClusterIP")
    assert claimed(new, old) == {("clusterips", old["spec"]["clusterIP"])}
    assert "nodePort" not in admitted(new, old)["spec"]["ports"][0]


def test_a_node_port_stays_when_an_update_leaves_it_out():
    old = admitted(service(type="NodePort"))
    new = changed(old, ports=[{"port": 81}])
    assert admitted(new, old)["spec"]["ports"][0]["nodePort"] == old["spec"]["ports"][0]["nodePort"]


def test_node_ports_are_in_their_range_and_distinct():
    ports = [{"name": f"p{n}", "port": n} for n in range(1, 30)]
    numbers = [port["nodePort"] for port in admitted(service(type="NodePort", ports=ports))["spec"]["ports"]]
    assert len(set(numbers)) == 29
    assert all(30000 <= number <= 32767 for number in numbers)


def test_one_port_number_shares_its_node_port_between_protocols():
    ports = [{"name": "dns", "port": 53}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]
    one, other = admitted(service(type="NodePort", ports=ports))["spec"]["ports"]
    assert one["nodePort"] == other["nodePort"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
        (30080, "provided port is already allocated"),
    ],
)
def test_a_node_port_that_cannot_be_given_is_refused(number, said):
    wanted = service(type="NodePort", ports=[{"port": 80, "nodePort": number}])
    with pytest.raises(Invalid, match=said) as refused:
        SERVICES.admit(wanted, None, Taken(nodeports={"30080"}))
    assert [cause.field for cause in refused.value.causes] == ["spec.ports[0].nodePort"]


def test_all_node_ports_taken_is_said_clearly():
    everything = {str(number) for number in range(30000, 32768)}
    with pytest.raises(Invalid, match="all 2768 node ports 30000-32767 belong to other Services"):
        SERVICES.admit(service(type="NodePort"), None, Taken(nodeports=everything))


def test_a_local_load_balancer_gets_a_health_check_port_of_its_own():
    spec = admitted(service(type="LoadBalancer", externalTrafficPolicy="Local"))["spec"]
    assert spec["healthCheckNodePort"] not in {0, spec["ports"][0]["nodePort"]}


def test_a_load_balancer_can_do_without_node_ports():
    spec = admitted(service(type="LoadBalancer", allocateLoadBalancerNodePorts=False))["spec"]
    assert "nodePort" not in spec["ports"][0]


def test_a_new_service_starts_without_status():
    given = service() | {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    assert admitted(given)["status"] == {"loadBalancer": {}}


def test_admitting_what_was_admitted_changes_nothing():
    old = admitted(service(type="LoadBalancer", externalTrafficPolicy="Local"))
    assert admitted(SERVICES.default(old), old) == old


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"clusterIP": "10.96.0.7"}, ["web", "ClusterIP", "10.96.0.7", "<none>", "80/TCP", "<unknown>", "<none>"]),
        ({"clusterIP": "None", "selector": {"b": "2", "a": "1"}}, ["web", "ClusterIP", "None", "<none>", "80/TCP", "<unknown>", "a=1,b=2"]),
        (
            {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 53, "protocol": "UDP", "nodePort": 30002}]},
            ["web", "NodePort", "10.96.0.7", "<none>", "80:30001/TCP,53:30002/UDP", "<unknown>", "<none>"],
        ),
        ({"type": "ExternalName", "externalName": "a.example", "ports": []}, ["web", "ExternalName", "<none>", "a.example", "<none>", "<unknown>", "<none>"]),
        (
            {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "allocateLoadBalancerNodePorts": False},
            ["web", "LoadBalancer", "10.96.0.7", "<pending>", "80/TCP", "<unknown>", "<none>"],
        ),
        ({"clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.1", "192.0.2.2"]}, ["web", "ClusterIP", "10.96.0.7", "192.0.2.1,192.0.2.2", "80/TCP", "<unknown>", "<none>"]),
    ],
)  # fmt: skip
def test_kubectl_prints_a_service_as_it_does_elsewhere(spec, expected):
    assert [column.cell(admitted(service(**spec)), NOW) for column in SERVICES.columns] == expected


def test_a_headless_service_is_found_by_field_selector():
    assert SERVICES.selectable_fields(admitted(service(clusterIP="None")))["spec.clusterIP"] == "None"
