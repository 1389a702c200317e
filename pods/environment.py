"""What every container finds in its environment: who it is, and what its spec says. Pure."""

from kube.objects import Container, Pod


def variables(pod: Pod, container: Container, *, addresses: tuple[str, ...], host: str) -> dict[str, str]:
    """Return the variables of a container in a pod with these addresses, on a node with the address `host`."""
    address = addresses[0] if addresses else ""
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "status.hostIP": host,
        "status.podIP": address,
        "status.podIPs": ",".join(addresses),
    }
    own = {
        "HOSTNAME": pod.metadata.name,
        "POD_NAME": pod.metadata.name,
        "POD_NAMESPACE": pod.metadata.namespace,
        "POD_NODE": pod.spec.node_name,
        "POD_IP": address,
    }
    for variable in container.env:
        reference = variable.value_from.field_ref if variable.value_from else None
        own[variable.name] = variable.value if reference is None else fields.get(reference.field_path, "")
    return own
