import pytest

from kube.resources import BY_PLURAL, ENDPOINT_SLICES, NODES, PODS, SERVICES, InvalidPathSegment


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (NODES.path(), "/api/v1/nodes"),
        (NODES.path(name="node-1"), "/api/v1/nodes/node-1"),
        (NODES.path("ignored", "node-1"), "/api/v1/nodes/node-1"),
        (NODES.path(name="node-1", subresource="status"), "/api/v1/nodes/node-1/status"),
        (PODS.path(), "/api/v1/pods"),
        (PODS.path("default"), "/api/v1/namespaces/default/pods"),
        (PODS.path("default", "web"), "/api/v1/namespaces/default/pods/web"),
        (ENDPOINT_SLICES.path(), "/apis/discovery.k8s.io/v1/endpointslices"),
        (PODS.path("default", "a b?c#d"), "/api/v1/namespaces/default/pods/a%20b%3Fc%23d"),
    ],
)
def test_path(path, expected):
    assert path == expected


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../nodes", "%2e%2e"])
def test_a_name_cannot_lead_to_another_path(name):
    with pytest.raises(InvalidPathSegment, match="name"):
        PODS.path("default", name)


@pytest.mark.parametrize("namespace", ["", "..", "a/b"])
def test_a_namespace_cannot_lead_to_another_path(namespace):
    with pytest.raises(InvalidPathSegment, match="namespace"):
        PODS.path(namespace)


def test_api_version_of_both_kinds_of_groups():
    assert (SERVICES.api_version, ENDPOINT_SLICES.api_version) == ("v1", "discovery.k8s.io/v1")


def test_resources_are_found_by_their_plural():
    assert BY_PLURAL["endpointslices"] is ENDPOINT_SLICES
