"""What `kubectl get pods` shows: the phase, corrected by what the containers say and by a deletion under way."""

from datetime import datetime

from api.model import Column, Object
from api.resources import cells


def _statuses(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _condition(pod: Object, kind: str) -> str:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((str(each.get("status", "")) for each in conditions if each.get("type") == kind), "")


def _is_running(status: Object) -> bool:
    return bool(status.get("ready")) and "running" in status.get("state", {})


def _ready(pod: Object, _now: datetime) -> str:
    ready = sum(_is_running(status) for status in _statuses(pod))
    return f"{ready}/{len(pod.get('spec', {}).get('containers', []))}"


def _ended(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _container_reason(status: Object) -> str:
    state = status.get("state", {})
    if state.get("waiting", {}).get("reason"):
        return str(state["waiting"]["reason"])
    return _ended(state["terminated"]) if "terminated" in state else ""


def _init_reason(pod: Object) -> str:
    """The first init container that is not through stands for the whole pod."""
    inits = pod.get("status", {}).get("initContainerStatuses", [])
    total = len(pod.get("spec", {}).get("initContainers", []))
    for index, status in enumerate(inits):
        terminated = status.get("state", {}).get("terminated")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        reason = _container_reason(status)
        return f"Init:{reason}" if reason not in {"", "PodInitializing"} else f"Init:{index}/{total}"
    return ""


def _running_reason(pod: Object, reason: str) -> str:
    # The first container that has something to say wins: kubectl walks them from the last to the first.
    spoken = [said for said in map(_container_reason, _statuses(pod)) if said]
    reason = spoken[0] if spoken else reason
    if reason == "Completed" and any(_is_running(status) for status in _statuses(pod)):
        return "Running" if _condition(pod, "Ready") == "True" else "NotReady"
    return reason


def _status(pod: Object, _now: datetime) -> str:
    status = pod.get("status", {})
    phase = status.get("phase", "")
    if pod.get("metadata", {}).get("deletionTimestamp") and phase not in {"Succeeded", "Failed"}:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    initializing = _init_reason(pod)
    if initializing and _condition(pod, "Initialized") != "True":
        return initializing
    return _running_reason(pod, str(status.get("reason") or phase))


def _restarts(pod: Object, now: datetime) -> str:
    count = sum(status.get("restartCount", 0) for status in _statuses(pod))
    ends = [status.get("lastState", {}).get("terminated", {}).get("finishedAt") or "" for status in _statuses(pod)]
    last = max(ends, default="")
    return f"{count} ({cells.since(last, now)} ago)" if count and last else str(count)


def _ip(pod: Object, _now: datetime) -> str:
    status = pod.get("status", {})
    addresses = [each.get("ip", "") for each in status.get("podIPs", [])] or [status.get("podIP", "")]
    return addresses[0] or cells.NONE


def _gates(pod: Object, _now: datetime) -> str:
    gates = pod.get("spec", {}).get("readinessGates", [])
    passed = sum(_condition(pod, gate.get("conditionType", "")) == "True" for gate in gates)
    return f"{passed}/{len(gates)}" if gates else cells.NONE


COLUMNS = (
    cells.NAME,
    Column("Ready", "string", 0, _ready),
    Column("Status", "string", 0, _status),
    Column("Restarts", "string", 0, _restarts),
    cells.AGE,
    Column("IP", "string", 1, _ip),
    Column("Node", "string", 1, lambda pod, _now: pod.get("spec", {}).get("nodeName") or cells.NONE),
    Column(
        "Nominated Node",
        "string",
        1,
        lambda pod, _now: pod.get("status", {}).get("nominatedNodeName") or cells.NONE,
    ),
    Column("Readiness Gates", "string", 1, _gates),
)
