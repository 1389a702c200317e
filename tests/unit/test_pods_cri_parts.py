"""Pods as the runtime is told of them, and its answers as records. Node 192.0.2.1, pod 10.244.1.5."""

import json
from pathlib import PurePath

from kube.objects import Container, ContainerPort, EnvVar, ObjectMeta, Pod, PodSpec
from pods.cri import configs, records
from pods.cri import runtime_pb2 as cri
from pods.cri.changes import changed
from pods.record import ContainerRecord

PLACE = configs.Place(node="node1", hosts=("192.0.2.1",), logs=PurePath("/logs"), cgroup_parent="/podwire")
PORTS = (
    ContainerPort(container_port=80),
    ContainerPort(container_port=53, protocol="UDP", host_port=5353, host_ip="192.0.2.1"),
)
WEB = Container(name="web", image="web:1", args=("-v",), ports=PORTS, env=(EnvVar(name="COLOUR", value="blue"),))


def a_pod(name="web-1", **spec):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="demo", uid="u1"),
        spec=PodSpec(node_name="node1", containers=(WEB,), **spec),
    )


def a_status(state=cri.SANDBOX_READY, ip="10.244.1.5", more=(), path="/var/run/netns/cni-1"):
    spec = {"runtimeSpec": {"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": path}]}}}
    network = cri.PodSandboxNetworkStatus(ip=ip, additional_ips=[cri.PodIP(ip=each) for each in more])
    return cri.PodSandboxStatusResponse(
        status=cri.PodSandboxStatus(
            id="s1",
            metadata=cri.PodSandboxMetadata(name="web-1", uid="u1", namespace="demo"),
            state=state,
            created_at=10**18,
            network=network,
        ),
        info={"info": json.dumps(spec)},
    )


def an_attempt(number, state, **fields):
    metadata = cri.ContainerMetadata(name="web", attempt=number)
    return cri.ContainerStatus(id=f"c{number}", metadata=metadata, state=state, created_at=10**18, **fields)


def test_only_ports_that_name_one_of_the_host_are_mapped():
    (mapping,) = configs.sandbox(a_pod(), PLACE).port_mappings

    assert (mapping.protocol, mapping.container_port, mapping.host_port) == (cri.UDP, 53, 5353)
    assert mapping.host_ip == "192.0.2.1"


def test_a_pod_on_the_nodes_network_maps_nothing_and_shares_it():
    config = configs.sandbox(a_pod(host_network=True), PLACE)

    assert (list(config.port_mappings), config.hostname) == ([], "")
    assert config.linux.security_context.namespace_options.network == cri.NODE


def test_a_long_name_is_cut_to_a_hostname():
    assert configs.sandbox(a_pod("a" * 62 + "-b"), PLACE).hostname == "a" * 62


def test_a_container_is_numbered_by_its_restarts_and_knows_its_pod():
    record = records.sandbox(a_status(), (), hosts=("192.0.2.1",)).with_container(
        ContainerRecord(name="web", restarts=3)
    )

    config = configs.container(a_pod(), WEB, PLACE, record)

    assert (config.metadata.attempt, config.image.image, list(config.args)) == (3, "web:1", ["-v"])
    variables = {each.key: each.value for each in config.envs}
    assert (variables["COLOUR"], variables["POD_IP"], variables["POD_NODE"]) == ("blue", "10.244.1.5", "node1")
    assert config.labels[configs.NODE] == "node1"


def test_a_sandbox_has_the_addresses_of_both_families_and_its_namespace():
    record = records.sandbox(a_status(more=("fd00::5",)), (), hosts=("192.0.2.1",))

    assert record.addresses == ("10.244.1.5", "fd00::5")
    assert (record.netns, record.released) == ("/var/run/netns/cni-1", False)


def test_one_without_a_namespace_of_its_own_has_the_nodes_address():
    assert records.sandbox(a_status(ip="", path=""), (), hosts=("192.0.2.1",)).addresses == ("192.0.2.1",)


def test_one_that_lost_its_address_has_none():
    assert records.sandbox(a_status(ip=""), (), hosts=("192.0.2.1",)).addresses == ()


def test_what_the_runtime_says_beyond_the_standard_may_be_anything():
    answer = a_status()
    answer.info["info"] = "{"

    assert records.sandbox(answer, (), hosts=("192.0.2.1",)).netns == ""


def test_the_newest_attempt_counts_and_the_one_before_tells_how_it_ended():
    attempts = [
        an_attempt(1, cri.CONTAINER_RUNNING, started_at=10**18),
        an_attempt(0, cri.CONTAINER_EXITED, started_at=10**18, finished_at=2 * 10**18, exit_code=3),
        an_attempt(2, cri.CONTAINER_CREATED),
    ]

    found = records.sandbox(a_status(), attempts, hosts=()).container("web")

    assert (found.running, found.restarts, found.exit_code) == ("c1", 1, 3)


def test_an_end_before_its_start_is_put_in_order():
    status = an_attempt(0, cri.CONTAINER_EXITED, started_at=3 * 10**18, finished_at=2 * 10**18)

    found = records.ended(ContainerRecord(name="web"), status)

    assert found.started_at == found.finished_at


def test_pods_that_came_went_or_differ_have_changed():
    before = {"a": frozenset({("s1", 0)}), "b": frozenset({("s2", 0)}), "c": frozenset({("s3", 0)})}
    now = {"a": frozenset({("s1", 0)}), "b": frozenset({("s2", 1)}), "d": frozenset({("s4", 0)})}

    assert changed(before, now) == {"b", "c", "d"}
