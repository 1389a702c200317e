"""Objects as a real API server writes them."""

import msgspec
import pytest

from kube.objects import EndpointSlice, HttpGet, Node, Pod, Service

SERVICE = b"""{
  "kind": "Service", "apiVersion": "v1",
  "metadata": {"name": "web", "namespace": "default", "uid": "4d2c", "resourceVersion": "812",
    "creationTimestamp": "2026-01-05T10:00:00Z", "labels": {"app": "web"}, "annotations": null,
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]},
  "spec": {"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080}],
    "selector": {"app": "web"}, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "type": "LoadBalancer",
    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
    "externalIPs": ["203.0.113.9"], "loadBalancerSourceRanges": ["198.51.100.0/24"],
    "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack", "allocateLoadBalancerNodePorts": true, "internalTrafficPolicy": "Cluster"},
  "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "lb.example"}]}}
}"""

SLICE = b"""{
  "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
  "metadata": {"name": "web-abcde", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
  "addressType": "IPv4",
  "endpoints": [{"addresses": ["10.244.1.5"], "conditions": {"ready": true, "serving": true, "terminating": false},
    "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "77"}, "nodeName": "node-1",
    "zone": "a", "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node-1"}]}},
    {"addresses": ["10.244.2.5"], "conditions": {}}],
  "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "", "port": null}]
}"""

NODE = b"""{
  "metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
  "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}],
    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-05T10:00:00Z",
      "lastTransitionTime": null, "reason": "KubeletReady", "message": "ok"}]}
}"""

POD = b"""{
  "metadata": {"name": "web-1", "namespace": "default", "deletionTimestamp": "2026-01-05T10:00:30Z",
    "deletionGracePeriodSeconds": 30},
  "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 5, "containers": [{"name": "web",
    "image": "podwire/echo", "command": ["sleep"], "args": ["1"], "env": [{"name": "A", "value": "b"},
      {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}}]},
  "status": {"phase": "Running", "podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}],
    "conditions": [{"type": "Ready", "status": "True"}]}
}"""


def test_a_service_has_what_a_proxy_reads():
    service = msgspec.json.decode(SERVICE, type=Service)
    spec = service.spec
    assert (spec.type, spec.cluster_ip, spec.cluster_ips) == ("LoadBalancer", "10.96.0.7", ("10.96.0.7",))
    assert (spec.ports[0].name, spec.ports[0].port, spec.ports[0].node_port) == ("http", 80, 30080)
    assert spec.session_affinity_config.client_ip.timeout_seconds == 10800
    assert (spec.external_ips, spec.load_balancer_source_ranges) == (("203.0.113.9",), ("198.51.100.0/24",))
    assert (spec.external_traffic_policy, spec.internal_traffic_policy) == ("Local", "Cluster")
    assert [(ingress.ip, ingress.ip_mode) for ingress in service.status.load_balancer.ingress] == [
        ("192.0.2.8", "Proxy"),
        ("", "VIP"),
    ]


def test_a_slice_has_what_a_proxy_reads():
    endpoint_slice = msgspec.json.decode(SLICE, type=EndpointSlice)
    first, second = endpoint_slice.endpoints
    assert (first.addresses, first.node_name, first.target_ref.name) == (("10.244.1.5",), "node-1", "web-1")
    assert first.hints.for_nodes[0].name == first.node_name
    assert (first.conditions.ready, second.conditions.ready) == (True, None)
    assert [port.port for port in endpoint_slice.ports] == [8080, None]


@pytest.mark.parametrize("content", [b'"endpoints":null,"ports":null', b'"endpoints":[],"ports":[]', b'"kind":"x"'])
def test_a_slice_without_endpoints_is_an_object_too(content):
    raw = b'{"metadata":{"name":"web-1"},"addressType":"IPv4",' + content + b"}"
    assert not msgspec.json.decode(raw, type=EndpointSlice).endpoints


def test_a_node_has_its_cidrs_and_addresses():
    node = msgspec.json.decode(NODE, type=Node)
    assert (node.spec.pod_cidr, node.spec.pod_cidrs) == ("10.244.1.0/24", ("10.244.1.0/24",))
    assert node.status.addresses[0].address == "192.0.2.11"
    assert node.status.conditions[0].status == "True"


def test_a_pod_has_what_runs_it():
    pod = msgspec.json.decode(POD, type=Pod)
    (container,) = pod.spec.containers
    assert (container.command, container.args) == (("sleep",), ("1",))
    assert container.env[1].value_from.field_ref.field_path == "status.podIP"
    assert container.readiness_probe.http_get == HttpGet(port="http", path="/ready")
    assert (pod.status.pod_ip, pod.status.pod_ips[0].ip) == ("10.244.1.5", "10.244.1.5")
    assert pod.metadata.deletion_timestamp.isoformat() == "2026-01-05T10:00:30+00:00"
    assert pod.metadata.deletion_grace_period_seconds == 30


@pytest.mark.parametrize(("raw", "kind"), [(SERVICE, Service), (SLICE, EndpointSlice), (NODE, Node), (POD, Pod)])
def test_what_is_written_reads_back(raw, kind):
    obj = msgspec.json.decode(raw, type=kind)
    assert msgspec.json.decode(msgspec.json.encode(obj), type=kind) == obj


def test_an_object_needs_a_name():
    with pytest.raises(msgspec.ValidationError, match="name"):
        msgspec.json.decode(b'{"metadata":{}}', type=Service)
