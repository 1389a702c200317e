"""Pods: defaults, validation, what may change, graceful deletion, and what kubectl prints."""

from datetime import UTC, datetime
from typing import Any

import pytest

from api.resources.pod import PodStrategy

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PODS = PodStrategy()


class NothingTaken:
    def taken(self, pool: str) -> frozenset[str]:
        return frozenset()


def pod(
    *, container: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    spec.setdefault("containers", [{"name": "c", "image": "podwire/echo"} | (container or {})])
    return PODS.default({"metadata": {"namespace": "default", "name": "p"}, "spec": spec, "status": status or {}})


def complaints(obj: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
    return {error.field: str(error).removeprefix(f"{error.field}: ") for error in PODS.validate(obj, old)}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
        ("securityContext", {}),
    ],
)
def test_a_pods_defaults_are_the_servers(field, expected):
    assert pod()["spec"][field] == expected


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({}, "terminationMessagePath", "/dev/termination-log"),
        ({}, "terminationMessagePolicy", "File"),
        ({}, "resources", {}),
        ({"ports": [{"containerPort": 80}]}, "ports", [{"containerPort": 80, "protocol": "TCP"}]),
        ({"image": "a"}, "imagePullPolicy", "Always"),
        ({"image": "a:latest"}, "imagePullPolicy", "Always"),
        ({"image": "a:1"}, "imagePullPolicy", "IfNotPresent"),
        ({"image": "registry:5000/a"}, "imagePullPolicy", "Always"),
        ({"image": "registry:5000/a:1"}, "imagePullPolicy", "IfNotPresent"),
        ({"image": "a@sha256:00"}, "imagePullPolicy", "IfNotPresent"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources", {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
        (
            {"readinessProbe": {"httpGet": {"port": 80}}},
            "readinessProbe",
            {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        ),
    ],
)
def test_a_containers_defaults_are_the_servers(given, field, expected):
    assert pod(container=given)["spec"]["containers"][0][field] == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"podIP": "10.244.0.2"}, ("10.244.0.2", [{"ip": "10.244.0.2"}])),
        ({"podIPs": [{"ip": "10.244.0.2"}]}, ("10.244.0.2", [{"ip": "10.244.0.2"}])),
        ({"podIP": "10.244.0.3", "podIPs": [{"ip": "10.244.0.2"}]}, ("10.244.0.3", [{"ip": "10.244.0.3"}])),
        ({"podIP": "", "podIPs": [{"ip": "10.244.0.2"}]}, ("", [])),
        ({}, (None, None)),
    ],
)
def test_both_names_of_a_pods_address_agree(status, expected):
    defaulted = pod(status=status)["status"]
    assert (defaulted.get("podIP"), defaulted.get("podIPs")) == expected


def test_on_the_host_network_a_ports_host_port_is_itself():
    spec = pod(hostNetwork=True, container={"ports": [{"containerPort": 80}]})["spec"]
    assert spec["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_a_new_pod_is_pending_and_has_its_class(resources, expected):
    admitted = PODS.admit(pod(container={"resources": resources}, status={"phase": "Running"}), None, NothingTaken())
    assert admitted.obj["status"] == {"phase": "Pending", "qosClass": expected}


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"containers": []}, "spec.containers", "Required value"),
        ({"containers": [{"image": "a"}]}, "spec.containers[0].name", "Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image", "Required value"),
        ({"containers": [{"name": "C_", "image": "a"}]}, "spec.containers[0].name", "a lowercase RFC 1123 label must"),
        (
            {"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "a"}]},
            "spec.containers[1].name",
            'Duplicate value: "c"',
        ),
        ({"container": {"ports": [{}]}}, "spec.containers[0].ports[0].containerPort", "Required value"),
        (
            {"container": {"ports": [{"containerPort": 70000}]}},
            "spec.containers[0].ports[0].containerPort",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"container": {"ports": [{"containerPort": 80, "protocol": "tcp"}]}},
            "spec.containers[0].ports[0].protocol",
            'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"container": {"ports": [{"containerPort": 80, "name": "a-name-too-long-by-far"}]}},
            "spec.containers[0].ports[0].name",
            "must be no more than 15 characters",
        ),
        ({"container": {"env": [{"value": "x"}]}}, "spec.containers[0].env[0].name", "Required value"),
        (
            {"container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}},
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "v"',
        ),
        ({"container": {"readinessProbe": {}}}, "spec.containers[0].readinessProbe", "must specify a handler type"),
        (
            {"container": {"readinessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["a"]}}}},
            "spec.containers[0].readinessProbe.exec",
            "Forbidden: may not specify more than 1 handler type",
        ),
        (
            {"container": {"readinessProbe": {"tcpSocket": {"port": 0}}}},
            "spec.containers[0].readinessProbe.tcpSocket.port",
            "Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        ({"container": {"imagePullPolicy": "Maybe"}}, "spec.containers[0].imagePullPolicy", 'Unsupported value: "Maybe"'),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy", 'supported values: "Always", "OnFailure", "Never"'),
        ({"terminationGracePeriodSeconds": -1}, "spec.terminationGracePeriodSeconds", "must be greater than or equal to 0"),
        ({"nodeName": "Node_1"}, "spec.nodeName", "a lowercase RFC 1123 subdomain must"),
        ({"hostname": "a.b"}, "spec.hostname", "a lowercase RFC 1123 label must"),
        ({"status": {"podIP": "10.244.0.999"}}, "status.podIP", "must be a valid IP address"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_value_and_reason(spec, field, said):
    assert said in complaints(pod(**spec))[field]


def test_a_pods_spec_may_not_change():
    old = pod(container={"command": ["a"]})
    refusal = complaints(pod(container={"command": ["b"]}, dnsPolicy="Default"), old)["spec"]
    assert refusal.startswith("Forbidden: pod updates may not change fields other than")
    assert "spec.containers[0].command[0]: was 'a', is 'b'" in refusal
    assert "spec.dnsPolicy: was 'ClusterFirst', is 'Default'" in refusal


@pytest.mark.parametrize(
    "change",
    [
        {"container": {"image": "other:1", "imagePullPolicy": "Always"}},
        {"activeDeadlineSeconds": 5},
        {"tolerations": [{"operator": "Exists"}]},
        {"nodeName": "node-1"},
    ],
    ids=["image", "deadline", "toleration", "binding"],
)
def test_some_of_a_pods_spec_may_change(change):
    assert complaints(pod(**change), pod()) == {}


def test_a_bound_pod_stays_on_its_node():
    assert (
        "spec.nodeName: was 'node-1', is 'node-2'" in complaints(pod(nodeName="node-2"), pod(nodeName="node-1"))["spec"]
    )


def test_a_toleration_may_not_go():
    old = pod(tolerations=[{"operator": "Exists"}])
    assert "spec.tolerations" in complaints(pod(), old)


@pytest.mark.parametrize(
    ("spec", "status", "requested", "expected"),
    [
        ({}, {}, None, 0),
        ({}, {}, 30, 0),
        ({"nodeName": "n"}, {}, None, 30),
        ({"nodeName": "n"}, {}, 5, 5),
        ({"nodeName": "n"}, {}, 0, 0),
        ({"nodeName": "n"}, {}, -1, 1),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 2}, {}, None, 2),
        ({"nodeName": "n"}, {"phase": "Succeeded"}, None, 0),
        ({"nodeName": "n"}, {"phase": "Failed"}, 10, 0),
    ],
    ids=["unbound", "unbound-asked", "bound", "asked", "now", "negative", "its-own", "succeeded", "failed"],
)
def test_a_pod_gets_time_to_end_when_it_runs_somewhere(spec, status, requested, expected):
    assert PODS.graceful_seconds(pod(status=status, **spec), requested) == expected


READY = {"type": "Ready", "status": "True"}
RUNNING = {"name": "c", "ready": True, "restartCount": 0, "state": {"running": {}}}
CRASHED = {
    "name": "c",
    "ready": False,
    "restartCount": 3,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"finishedAt": "2026-01-01T11:58:00Z"}},
}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ["0/1", "Pending", "0"]),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, ["1/1", "Running", "0"]),
        ({"phase": "Running", "containerStatuses": [CRASHED]}, ["0/1", "CrashLoopBackOff", "3 (2m ago)"]),
        ({"phase": "Failed", "reason": "Evicted"}, ["0/1", "Evicted", "0"]),
        ({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed"}}}]}, ["0/1", "Completed", "0"]),
        ({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 2}}}]}, ["0/1", "ExitCode:2", "0"]),
        ({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"signal": 9}}}]}, ["0/1", "Signal:9", "0"]),
        ({"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}]}, ["0/1", "ErrImageNeverPull", "0"]),
        ({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}, ["0/1", "Init:0/0", "0"]),
    ],
)  # fmt: skip
def test_kubectl_prints_a_pods_state_as_it_does_elsewhere(status, expected):
    assert [column.cell(pod(status=status), NOW) for column in PODS.columns[1:4]] == expected


def test_a_pod_being_deleted_is_terminating():
    dying = pod(status={"phase": "Running", "containerStatuses": [RUNNING], "conditions": [READY]})
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:30Z"
    assert PODS.columns[2].cell(dying, NOW) == "Terminating"


def test_wide_columns_say_where_a_pod_is():
    placed = pod(nodeName="node-1", status={"podIP": "10.244.1.2"}, readinessGates=[{"conditionType": "x"}])
    assert [column.cell(placed, NOW) for column in PODS.columns[5:]] == ["10.244.1.2", "node-1", "<none>", "0/1"]


@pytest.mark.parametrize("field", ["spec.nodeName", "status.phase", "status.podIP", "spec.restartPolicy"])
def test_pods_can_be_selected_by(field):
    assert field in PODS.selectable_fields(pod())
