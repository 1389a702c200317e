"""EndpointSlices of two families: a Service's pods in a slice for each of its families."""

from typing import Any

import pytest

from api.controllers import slices
from api.controllers.slices import MANAGER
from api.controllers.writes import Writes

# Address plan: pod N is 10.244.0.N and fd00:10:244::N.
BOTH, V4, V6 = ["IPv4", "IPv6"], ["IPv4"], ["IPv6"]

Object = dict[str, Any]


def service(families: list[str]) -> Object:
    spec = {"selector": {"app": "web"}, "type": "ClusterIP", "ipFamilies": families}
    spec["ports"] = [{"name": "", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {"metadata": {"namespace": "default", "name": "web", "uid": "s1"}, "spec": spec}


def pod(number: int, *, families: list[str] = BOTH) -> Object:
    addresses = {"IPv4": f"10.244.0.{number}", "IPv6": f"fd00:10:244::{number}"}
    ips = [{"ip": addresses[family]} for family in families]
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"namespace": "default", "name": f"p{number}", "uid": f"u{number}"},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips},
    }


def plan(owner: Object, pods: list[Object], existing: list[Object]) -> Writes:
    return slices.plan(owner, pods, existing, zones={}, changed_at="2026-01-01T00:00:00Z")


def made(families: list[str], pods: list[Object]) -> list[Object]:
    created = plan(service(families), pods, []).create
    return [piece | {"metadata": piece["metadata"] | {"name": f"web-{number}"}} for number, piece in enumerate(created)]


def contents(pieces: list[Object]) -> dict[str, list[str]]:
    return {
        piece["addressType"]: [address for each in piece["endpoints"] for address in each["addresses"]]
        for piece in pieces
    }


def test_each_family_has_a_slice_with_its_addresses():
    assert contents(made(BOTH, [pod(1), pod(2)])) == {
        "IPv4": ["10.244.0.1", "10.244.0.2"],
        "IPv6": ["fd00:10:244::1", "fd00:10:244::2"],
    }


def test_a_service_of_ipv6_leads_to_ipv6_alone():
    assert contents(made(V6, [pod(1)])) == {"IPv6": ["fd00:10:244::1"]}


def test_a_pod_of_one_family_is_an_endpoint_of_that_family():
    assert contents(made(BOTH, [pod(1), pod(2, families=V4)])) == {
        "IPv4": ["10.244.0.1", "10.244.0.2"],
        "IPv6": ["fd00:10:244::1"],
    }


def test_a_family_without_endpoints_says_so_with_an_empty_slice():
    assert contents(made(BOTH, [pod(1, families=V4)])) == {"IPv4": ["10.244.0.1"], "IPv6": []}


def test_nothing_is_written_when_both_families_are_as_they_should_be():
    pods = [pod(1), pod(2)]
    assert plan(service(BOTH), pods, made(BOTH, pods)) == Writes()


@pytest.mark.parametrize(("kept", "gone"), [(V4, "IPv6"), (V6, "IPv4")])
def test_a_family_that_a_service_lets_go_of_takes_its_slices_along(kept, gone):
    planned = plan(service(kept), [pod(1)], made(BOTH, [pod(1)]))
    assert ([piece["addressType"] for piece in planned.delete], planned.create, planned.replace) == ([gone], (), ())


def test_a_new_family_touches_no_slice_of_the_other():
    planned = plan(service(BOTH), [pod(1)], made(V4, [pod(1)]))
    assert (contents(list(planned.create)), planned.replace, planned.delete) == ({"IPv6": ["fd00:10:244::1"]}, (), ())


def test_a_named_port_of_an_init_container_that_has_ended_is_not_served():
    obj = pod(1)
    obj["spec"]["initContainers"] = [{"name": "i", "ports": [{"name": "http", "containerPort": 1, "protocol": "TCP"}]}]
    obj["spec"]["containers"] = [{"name": "c"}]
    (piece,) = made(V4, [obj])
    assert piece["ports"] == []


def test_a_named_port_of_a_sidecar_is_served():
    obj = pod(1)
    ports = [{"name": "http", "containerPort": 9, "protocol": "TCP"}]
    obj["spec"] = {"containers": [{"name": "c"}], "initContainers": [{"restartPolicy": "Always", "ports": ports}]}
    (piece,) = made(V4, [obj])
    assert [port["port"] for port in piece["ports"]] == [9]


def test_every_slice_is_of_the_controllers_own():
    managers = {piece["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for piece in made(BOTH, [pod(1)])}
    assert managers == {MANAGER}
