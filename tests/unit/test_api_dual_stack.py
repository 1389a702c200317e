"""Services of two families: what they are given, how they move between one family and two, and what is refused."""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.resources.service import ServiceStrategy
from kube.errors import Invalid

# Address plan: Services 10.96.0.0/16 and fd00:10:96::/112; the first address of each is default/kubernetes'.
V4, V6 = IPv4Network("10.96.0.0/16"), IPv6Network("fd00:10:96::/112")
DUAL = ServiceStrategy(service_cidrs=(V4, V6))
V6_FIRST = ServiceStrategy(service_cidrs=(V6, V4))
ONLY_V4 = ServiceStrategy(service_cidrs=(V4,))
ONLY_V6 = ServiceStrategy(service_cidrs=(V6,))

PREFER, REQUIRE, SINGLE = "PreferDualStack", "RequireDualStack", "SingleStack"
HEADLESS = {"clusterIP": "None"}
SELECTOR = {"app": "web"}

Spec = dict[str, Any]


class Taken:
    """Claims as they are at one moment."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = frozenset(addresses)

    def taken(self, pool: str) -> frozenset[str]:
        return self._addresses if pool == "clusterips" else frozenset()


def service(cluster: ServiceStrategy = DUAL, name: str = "web", **spec: Any) -> Spec:
    spec = {"ports": [{"port": 80}], "selector": SELECTOR} | spec
    return cluster.default({"metadata": {"namespace": "default", "name": name}, "spec": spec})


def admitted(obj: Spec, old: Spec | None = None, cluster: ServiceStrategy = DUAL) -> Spec:
    assert cluster.validate(obj, old) == []
    return cluster.admit(obj, old, Taken()).obj


def made(cluster: ServiceStrategy = DUAL, **spec: Any) -> Spec:
    return admitted(service(cluster, **spec), None, cluster)


def changed(old: Spec, cluster: ServiceStrategy = DUAL, **spec: Any) -> Spec:
    """The object after a merge patch of its spec; None removes."""
    merged = {key: value for key, value in (old["spec"] | spec).items() if value is not None}
    return cluster.default(old | {"spec": merged})


def complaints(obj: Spec, old: Spec | None = None, cluster: ServiceStrategy = DUAL) -> dict[str, str]:
    return {error.field: str(error) for error in cluster.validate(obj, old)}


def versions(obj: Spec) -> list[int]:
    return [ip_address(address).version for address in obj["spec"]["clusterIPs"]]


def claimed(obj: Spec, old: Spec | None = None) -> set[str]:
    return {claim.value for claim in DUAL.admit(obj, old, Taken()).claims if claim.pool == "clusterips"}


@pytest.mark.parametrize(
    ("cluster", "spec", "families", "policy"),
    [
        (DUAL, {}, ["IPv4"], SINGLE),
        (V6_FIRST, {}, ["IPv6"], SINGLE),
        (ONLY_V6, {}, ["IPv6"], SINGLE),
        (DUAL, {"ipFamilies": ["IPv6"]}, ["IPv6"], SINGLE),
        (DUAL, {"ipFamilyPolicy": PREFER}, ["IPv4", "IPv6"], PREFER),
        (DUAL, {"ipFamilyPolicy": REQUIRE}, ["IPv4", "IPv6"], REQUIRE),
        (V6_FIRST, {"ipFamilyPolicy": PREFER}, ["IPv6", "IPv4"], PREFER),
        (DUAL, {"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"], PREFER),
        (DUAL, {"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"], REQUIRE),
        (ONLY_V4, {"ipFamilyPolicy": PREFER}, ["IPv4"], PREFER),
        (DUAL, {"clusterIP": "fd00:10:96::9"}, ["IPv6"], SINGLE),
        (DUAL, HEADLESS, ["IPv4"], SINGLE),
        (DUAL, HEADLESS | {"ipFamilyPolicy": PREFER}, ["IPv4", "IPv6"], PREFER),
        (DUAL, HEADLESS | {"selector": {}}, ["IPv4", "IPv6"], REQUIRE),
        (ONLY_V4, HEADLESS | {"selector": {}}, ["IPv4", "IPv6"], REQUIRE),
        (ONLY_V6, HEADLESS | {"selector": {}}, ["IPv6", "IPv4"], REQUIRE),
        (ONLY_V4, HEADLESS | {"selector": {}, "ipFamilyPolicy": SINGLE}, ["IPv4"], SINGLE),
    ],
)
def test_families_and_policy_are_filled_in_as_elsewhere(cluster, spec, families, policy):
    done = made(cluster, **spec)["spec"]
    assert (done["ipFamilies"], done["ipFamilyPolicy"]) == (families, policy)


@pytest.mark.parametrize("cluster", [DUAL, V6_FIRST], ids=["IPv4 first", "IPv6 first"])
def test_each_family_gets_an_address_in_its_order(cluster):
    done = made(cluster, ipFamilyPolicy=REQUIRE)
    assert [f"IPv{version}" for version in versions(done)] == done["spec"]["ipFamilies"]
    assert done["spec"]["clusterIP"] == done["spec"]["clusterIPs"][0]


def test_both_addresses_are_claimed():
    obj = service(ipFamilyPolicy=REQUIRE, clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "fd00:10:96::7"])
    assert claimed(obj) == {"10.96.0.7", "fd00:10:96::7"}


def test_one_address_can_be_chosen_and_the_other_left_to_the_server():
    done = made(ipFamilyPolicy=PREFER, clusterIP="fd00:10:96::7")
    assert (done["spec"]["clusterIPs"][0], versions(done)) == ("fd00:10:96::7", [6, 4])


def test_an_address_is_claimed_in_one_spelling_however_it_is_written():
    assert claimed(service(clusterIP="FD00:10:96:0:0:0:0:A")) == {"fd00:10:96::a"}


def test_an_address_somebody_has_is_refused_in_any_spelling():
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        DUAL.admit(service(clusterIP="FD00:10:96::000A"), None, Taken("fd00:10:96::a"))


def test_the_api_servers_address_is_kept_in_each_family():
    with pytest.raises(Invalid, match="it is kept for the Service default/kubernetes"):
        DUAL.admit(service(clusterIP="fd00:10:96::1"), None, Taken())
    assert admitted(service(name="kubernetes", ipFamilies=["IPv6"]))["spec"]["clusterIP"] == "fd00:10:96::1"


def test_a_full_range_is_named():
    tiny = ServiceStrategy(service_cidrs=(V4, IPv6Network("fd00:10:96::/127")))
    with pytest.raises(Invalid, match="the service CIDR fd00:10:96::/127 is exhausted"):
        tiny.admit(service(tiny, ipFamilies=["IPv6"]), None, Taken("fd00:10:96::1"))


@pytest.mark.parametrize("policy", [PREFER, REQUIRE])
def test_a_service_gets_its_second_address_with_the_policy_that_asks_for_it(policy):
    old = made()
    new = admitted(changed(old, ipFamilyPolicy=policy), old)
    assert (new["spec"]["clusterIPs"][:1], versions(new)) == (old["spec"]["clusterIPs"], [4, 6])


def test_an_update_may_name_the_second_address():
    old = made()
    both = [*old["spec"]["clusterIPs"], "fd00:10:96::77"]
    assert admitted(changed(old, ipFamilyPolicy=REQUIRE, clusterIPs=both), old)["spec"]["clusterIPs"] == both


def test_single_stack_alone_lets_go_of_the_second_address():
    old = made(ipFamilyPolicy=REQUIRE)
    new = changed(old, ipFamilyPolicy=SINGLE)
    done = admitted(new, old)["spec"]
    assert (done["clusterIPs"], done["ipFamilies"]) == (old["spec"]["clusterIPs"][:1], ["IPv4"])
    assert claimed(new, old) == {old["spec"]["clusterIP"]}


@pytest.mark.parametrize("policy", [SINGLE, PREFER])
def test_a_service_does_not_change_when_the_cluster_does(policy):
    old = made(ONLY_V4, ipFamilyPolicy=policy)
    assert admitted(changed(old), old, DUAL)["spec"] == old["spec"]


def test_a_dual_stack_service_survives_a_cluster_of_one_family():
    old = made(ipFamilyPolicy=REQUIRE)
    assert admitted(changed(old, ONLY_V4), old, ONLY_V4)["spec"] == old["spec"]


def test_an_update_that_leaves_the_addresses_out_keeps_both():
    old = made(ipFamilyPolicy=REQUIRE)
    new = changed(old, clusterIP=None, clusterIPs=None, ipFamilies=None, ipFamilyPolicy=None)
    assert admitted(new, old)["spec"] == old["spec"]


def test_becoming_external_name_frees_both_addresses():
    old = made(ipFamilyPolicy=REQUIRE)
    new = changed(old, type="ExternalName", externalName="a.example", ports=None)
    assert claimed(new, old) == set()


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy", "when multiple IP families are specified"),
        (
            {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7"]},
            "spec.ipFamilyPolicy",
            "when multiple IP families are specified",
        ),
        ({"ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies[1]", 'Duplicate value: "IPv4"'),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]", 'Unsupported value: "IPv5"'),
        ({"ipFamilyPolicy": "Both"}, "spec.ipFamilyPolicy", 'Unsupported value: "Both"'),
        (
            {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv6"]},
            "spec.clusterIPs[0]",
            "expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "10.96.0.8"], "ipFamilyPolicy": REQUIRE},
            "spec.clusterIPs",
            "may specify no more than one IP for each IP family",
        ),
        (
            {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7", "fd00:10:96::8"]},
            "spec.clusterIPs",
            "may only hold up to 2 values",
        ),
        ({"clusterIP": "fd00:10:96::7%eth0"}, "spec.clusterIPs[0]", "must be a valid IP address"),
    ],
)
def test_what_does_not_fit_together_is_refused(spec, field, said):
    assert said in complaints(service(**spec))[field]


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]", "not configured on this cluster"),
        ({"clusterIP": "fd00:10:96::7"}, "spec.clusterIPs[0]", "IPv6 is not configured on this cluster"),
        ({"ipFamilyPolicy": REQUIRE}, "spec.ipFamilyPolicy", "this cluster is not configured for dual-stack services"),
    ],
)
def test_what_the_cluster_does_not_offer_is_refused(spec, field, said):
    assert said in complaints(service(ONLY_V4, **spec), None, ONLY_V4)[field]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"ipFamilies": ["IPv6", "IPv4"]}, "spec.clusterIPs[0]", "expected an IPv6 value as indicated by"),
        ({"ipFamilies": ["IPv4"]}, "spec.ipFamilyPolicy", "must be 'SingleStack' to release the secondary IP family"),
        (
            {"clusterIPs": ["10.96.0.7"]},
            "spec.ipFamilyPolicy",
            "must be 'SingleStack' to release the secondary cluster IP",
        ),
        ({"clusterIPs": ["10.96.0.7", "fd00:10:96::8"]}, "spec.clusterIPs[1]", "may not change once set"),
    ],
)
def test_a_change_that_nobody_can_mean_is_refused(change, field, said):
    addresses = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7"]}
    old = made(ipFamilyPolicy=REQUIRE, **addresses)
    assert said in complaints(changed(old, **change), old)[field]


def test_a_headless_services_main_family_may_change_only_where_its_user_keeps_the_slices():
    old, free = made(**HEADLESS), made(**HEADLESS, selector={})
    swapped = {"ipFamilies": ["IPv6"], "ipFamilyPolicy": SINGLE}
    assert "may not change once set" in complaints(changed(old, **swapped), old)["spec.ipFamilies[0]"]
    assert complaints(changed(free, **swapped), free) == {}


CHANGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "ipFamilyPolicy": st.sampled_from([SINGLE, PREFER, REQUIRE, None]),
            "ipFamilies": st.sampled_from([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"], None, []]),
            "clusterIPs": st.sampled_from([["10.96.0.7"], ["10.96.0.7", "fd00:10:96::7"], ["fd00:10:96::7"], None]),
            "clusterIP": st.sampled_from(["10.96.0.7", "fd00:10:96::7", "None", None]),
            "selector": st.sampled_from([{}, SELECTOR]),
            "type": st.sampled_from(["ClusterIP", "NodePort", "ExternalName"]),
            "externalName": st.just("a.example"),
        },
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(CHANGES, st.lists(st.sampled_from([DUAL, V6_FIRST, ONLY_V4, ONLY_V6]), min_size=8, max_size=8))
def test_whatever_is_asked_for_families_addresses_and_claims_agree(changes, clusters):
    old: Spec | None = None
    for spec, cluster in zip(changes, clusters, strict=False):
        new = changed(old, cluster, **spec) if old else service(cluster, **spec)
        if cluster.validate(new, old):
            continue
        admission = cluster.admit(new, old, Taken())
        old = admission.obj
        addresses = [each for each in old["spec"].get("clusterIPs", []) if each != "None"]
        if addresses:
            assert [f"IPv{version}" for version in versions(old)] == old["spec"]["ipFamilies"]
        held = {claim.value for claim in admission.claims if claim.pool == "clusterips"}
        assert held == {str(ip_address(address)) for address in addresses}
