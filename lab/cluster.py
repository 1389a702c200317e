"""A lab's API as the lab's own commands use it: where it is, and the few questions they ask."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dataplane import atomic_file
from kube.connection import ConnectionConfigError, from_kubeconfig
from kube.http import Client
from kube.objects import Node, Pod
from kube.resources import NODES, PODS
from lab import plan, spelling
from lab.errors import LabError
from lab.plan import Lab

ADMIN_KUBECONFIG = "admin.kubeconfig"  # the name podwire-api gives it in its data folder


def write_kubeconfigs(lab: Lab) -> bool:
    """Write the kubeconfigs for people and for nodes from the API server's own; False while there is none yet."""
    try:
        document = msgspec.yaml.decode((lab.api_directory / ADMIN_KUBECONFIG).read_bytes())
    except FileNotFoundError:
        return False
    context = f"podwire-{lab.name}"
    for path, server in (
        (lab.kubeconfig, f"https://127.0.0.1:{lab.api_port}"),
        (lab.node_kubeconfig, f"https://{plan.GATEWAY.ip}:{plan.API_PORT}"),
    ):
        content = msgspec.yaml.encode(_pointed_at(document, server, context))
        if not path.exists() or path.read_bytes() != content:
            atomic_file.write(path, content)
    return True


def _pointed_at(document: Mapping[str, Any], server: str, context: str) -> dict[str, Any]:
    """Return a kubeconfig for the same identity at another address. Its context names the lab, as people see it."""
    cluster = document["clusters"][0]["cluster"] | {"server": server}
    user = document["users"][0]["user"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": user}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }


def client(lab: Lab) -> Client:
    """Return the API for the lab's own commands. Raises LabError when the lab has never been up."""
    try:
        return Client(from_kubeconfig(lab.kubeconfig), user_agent="podwire-lab")
    except ConnectionConfigError as error:
        raise LabError(str(error), f"Repair the lab: {spelling.command('up', lab.directory)}") from error


def nodes(api: Client) -> dict[str, Node]:
    return {node.metadata.name: node for node in api.list(NODES, decode=Node)}


def pods(api: Client, namespace: str | None = None) -> tuple[Pod, ...]:
    return api.list(PODS, namespace, decode=Pod)


def is_ready(holder: Node | Pod) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in holder.status.conditions)
