"""The cluster as kubectl on the control machine tells it, and the objects of the smoke test."""

import json
from dataclasses import dataclass
from typing import Any

from scenario.machines import PATIENCE, Failed, Machine, eventually

NAMESPACE = "smoke"
PODS_PER_NODE = 2
_IMAGE = "podwire/echo"  # answers every request with who it is
# A pod stays on a lost node for five minutes unless it says otherwise, and an emulated machine takes longer to start.
_STAY = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}


@dataclass(frozen=True)
class Pod:
    name: str
    node: str
    address: str


@dataclass(frozen=True)
class Stage:
    """What the checks work with."""

    control: Machine
    nodes: dict[str, Machine]
    addresses: dict[str, str]  # of every machine, by name

    @property
    def machines(self) -> dict[str, Machine]:
        return {self.control.name: self.control, **self.nodes}

    @property
    def pod_count(self) -> int:
        return len(self.nodes) * PODS_PER_NODE

    def kubectl(self, arguments: str, manifest: str = "") -> str:
        feed = f"cat <<'MANIFEST' | kubectl {arguments}\n{manifest}\nMANIFEST\n" if manifest else f"kubectl {arguments}"
        return self.control.run(f"export KUBECONFIG=/etc/podwire/kubeconfig\n{feed}\n")

    def get(self, what: str) -> dict[str, Any]:
        return json.loads(self.kubectl(f"get {what} -o json"))

    def pods(self) -> dict[str, Pod]:
        """The pods that are ready."""
        found = self.get(f"pods -n {NAMESPACE}")["items"]
        return {
            pod["metadata"]["name"]: Pod(pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["podIP"])
            for pod in found
            if _is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]
        }

    def endpoints(self) -> set[str]:
        """Names of the pods that answer the Service, as the EndpointSlices say."""
        slices = self.get(f"endpointslices -n {NAMESPACE} -l kubernetes.io/service-name=turn")["items"]
        return {
            endpoint["targetRef"]["name"]
            for each in slices
            for endpoint in each.get("endpoints") or []
            if endpoint["conditions"].get("ready", True)
        }

    def service(self, name: str) -> dict[str, Any]:
        return self.get(f"service -n {NAMESPACE} {name}")["spec"]

    def await_pods(self, within: float = 60) -> dict[str, Pod]:
        """All pods of the smoke test, ready. Whatever asks pods something begins so: none would answer for all of them."""

        def all_ready() -> dict[str, Pod]:
            found = self.pods()
            if len(found) != self.pod_count:
                raise Failed(f"{len(found)} of {self.pod_count} are: {self._states()}")
            return found

        return eventually(all_ready, "all pods are ready", within=within)

    def _states(self) -> str:
        columns = "NAME:.metadata.name,NODE:.spec.nodeName,PHASE:.status.phase,WAITS:..waiting.message"
        listed = self.kubectl(f"get pods -n {NAMESPACE} --no-headers -o custom-columns={columns}")
        return "; ".join(" ".join(line.split()) for line in listed.splitlines()) or "there are none"

    def has_pod(self, name: str) -> bool:
        return bool(self.kubectl(f"get pod -n {NAMESPACE} {name} --ignore-not-found -o name").strip())

    def clear(self) -> None:
        """Remove the smoke test's objects, those of an earlier one too, and await that they are gone."""
        self.kubectl(f"delete namespace {NAMESPACE} --ignore-not-found --timeout {60 * PATIENCE}s")


def open_stage(machines: dict[str, Machine]) -> Stage:
    control = machines.get("control")
    if control is None:
        raise Failed("the machine 'control' is not running; vagrant up")
    eventually(control.is_up, "the machine 'control' answers ssh", within=60)
    found = json.loads(control.run("kubectl --kubeconfig /etc/podwire/kubeconfig get nodes -o json"))["items"]
    addresses = {
        node["metadata"]["name"]: next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        for node in found
    }
    nodes = {name: machine for name, machine in machines.items() if name.startswith("node")}
    if absent := nodes.keys() - addresses.keys():
        raise Failed(f"not registered as nodes: {', '.join(sorted(absent))}; vagrant provision {min(absent)}")
    return Stage(control, nodes, addresses)


def is_ready(stage: Stage, node: str) -> bool:
    return _is_true(stage.get(f"node {node}"), "Ready")


def _is_true(obj: dict[str, Any], condition: str) -> bool:
    conditions = obj.get("status", {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in conditions)


def manifests(stage: Stage) -> str:
    """The objects of the smoke test, as JSON."""
    items: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    items += [pod(node, number) for node in stage.nodes for number in range(1, PODS_PER_NODE + 1)]
    items += [service("turn", type="NodePort"), service("sticky", sessionAffinity="ClientIP")]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def pod(node: str, number: int) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5 * PATIENCE},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"web-{node}-{number}", "namespace": NAMESPACE, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 2,
            "tolerations": [_STAY],
            "containers": [container],
        },
    }


def service(name: str, **spec: str) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }
