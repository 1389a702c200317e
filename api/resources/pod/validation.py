"""What is wrong with a Pod, or with changing one: nearly all of a pod's spec is fixed when it is created."""

from ipaddress import ip_address
from typing import Any

from api.model import Object
from api.resources import fields, metadata, names
from api.resources.pod import defaults
from kube.errors import FieldError

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_SCHEMES = ("HTTP", "HTTPS")

_MAY_CHANGE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
_FIXED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def errors(pod: Object, old: Object | None) -> list[FieldError]:
    """Everything wrong with the pod, or with changing `old` into it."""
    found = metadata.errors(pod, names.dns_subdomain) + _spec(pod["spec"]) + _addresses(pod["status"])
    return found if old is None else found + _change(pod["spec"], old.get("spec", {}))


def _spec(spec: Object) -> list[FieldError]:
    volumes = spec.get("volumes", [])
    return [
        *_volumes(volumes),
        *([] if spec.get("containers") else [fields.required("spec.containers")]),
        *_containers(spec, frozenset(volume.get("name", "") for volume in volumes)),
        *fields.one_of("spec.restartPolicy", spec["restartPolicy"], _RESTART_POLICIES),
        *fields.one_of("spec.dnsPolicy", spec["dnsPolicy"], _DNS_POLICIES),
        *fields.not_negative("spec.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"]),
        *_placement(spec),
    ]


def _addresses(status: Object) -> list[FieldError]:
    found = fields.ip("status.podIP", status["podIP"])[1] if status.get("podIP") else []
    addresses = [each.get("ip", "") for each in status.get("podIPs", [])]
    for index, address in enumerate(addresses):
        found += fields.ip(f"status.podIPs[{index}].ip", address)[1]
    if not found and len({ip_address(address).version for address in addresses}) < len(addresses):
        found.append(fields.invalid("status.podIPs", addresses, "may specify no more than one IP for each IP family"))
    return found


def _placement(spec: Object) -> list[FieldError]:
    found = names.labels("spec.nodeSelector", spec.get("nodeSelector", {}))
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            found += names.dns_label(f"spec.{key}", spec[key])
    if spec.get("nodeName"):
        found += names.dns_subdomain("spec.nodeName", spec["nodeName"])
    if "activeDeadlineSeconds" in spec:
        found += fields.in_range("spec.activeDeadlineSeconds", spec["activeDeadlineSeconds"], 1, 2**31 - 1)
    return found


def _volumes(volumes: list[Object]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, volume in enumerate(volumes):
        path, name = f"spec.volumes[{index}].name", volume.get("name", "")
        found += names.dns_label(path, str(name)) if name else [fields.required(path)]
    return found + fields.unique(
        (f"spec.volumes[{index}].name", str(volume.get("name", ""))) for index, volume in enumerate(volumes)
    )


def _containers(spec: Object, volumes: frozenset[str]) -> list[FieldError]:
    placed = [
        (f"spec.{kind}[{index}]", container)
        for kind in ("initContainers", "containers")
        for index, container in enumerate(spec.get(kind, []))
    ]
    found = [error for path, container in placed for error in _container(path, container, volumes)]
    return found + fields.unique((f"{path}.name", each["name"]) for path, each in placed if each.get("name"))


def _container(path: str, container: Object, volumes: frozenset[str]) -> list[FieldError]:
    name = container.get("name", "")
    found = names.dns_label(f"{path}.name", name) if name else [fields.required(f"{path}.name")]
    if not container.get("image", "").strip():
        found.append(fields.required(f"{path}.image"))
    found += fields.one_of(f"{path}.imagePullPolicy", container["imagePullPolicy"], _PULL_POLICIES)
    found += _ports(f"{path}.ports", container.get("ports", []))
    found += _environment(f"{path}.env", container.get("env", []))
    found += _mounts(f"{path}.volumeMounts", container.get("volumeMounts", []), volumes)
    for kind in defaults.PROBES:
        if kind in container:
            found += _probe(f"{path}.{kind}", container[kind])
    return found


def _ports(path: str, ports: list[Object]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, port in enumerate(ports):
        found += _port(f"{path}[{index}]", port)
    found += fields.unique((f"{path}[{i}].name", port["name"]) for i, port in enumerate(ports) if port.get("name"))
    return found


def _port(path: str, port: Object) -> list[FieldError]:
    found = fields.port_name(f"{path}.name", port["name"]) if port.get("name") else []
    number = port.get("containerPort", 0)
    found += fields.port(f"{path}.containerPort", number) if number else [fields.required(f"{path}.containerPort")]
    if port.get("hostPort"):
        found += fields.port(f"{path}.hostPort", port["hostPort"])
    return found + fields.one_of(f"{path}.protocol", port["protocol"], fields.PROTOCOLS)


def _environment(path: str, env: list[Object]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, variable in enumerate(env):
        name, where = variable.get("name", ""), f"{path}[{index}]"
        if not name:
            found.append(fields.required(f"{where}.name"))
        elif "=" in name or not name.isprintable():
            found.append(fields.invalid(f"{where}.name", name, "must be printable characters other than '='"))
        if variable.get("value") and "valueFrom" in variable:
            found.append(fields.invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty"))
    return found


def _mounts(path: str, mounts: list[Object], volumes: frozenset[str]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, mount in enumerate(mounts):
        name = mount.get("name", "")
        if not name:
            found.append(fields.required(f"{path}[{index}].name"))
        elif name not in volumes:
            found.append(fields.not_found(f"{path}[{index}].name", name))
        if not mount.get("mountPath"):
            found.append(fields.required(f"{path}[{index}].mountPath"))
    return found + fields.unique(
        (f"{path}[{i}].mountPath", mount.get("mountPath", "")) for i, mount in enumerate(mounts)
    )


def _probe(path: str, probe: Object) -> list[FieldError]:
    handlers = [handler for handler in _HANDLERS if handler in probe]
    if not handlers:
        return [fields.required(path, "must specify a handler type")]
    found = [fields.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in handlers[1:]]
    found += _handler(f"{path}.{handlers[0]}", handlers[0], probe[handlers[0]])
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        found += fields.not_negative(f"{path}.{key}", probe.get(key, 0))
    return found


def _handler(path: str, kind: str, handler: Object) -> list[FieldError]:
    if kind == "exec":
        return [] if handler.get("command") else [fields.required(f"{path}.command")]
    if "port" not in handler:
        return [fields.required(f"{path}.port")]
    found = fields.port_or_name(f"{path}.port", handler["port"])
    if kind == "httpGet":
        found += fields.one_of(f"{path}.scheme", handler["scheme"], _SCHEMES)
    return found


def _change(spec: Object, old: Object) -> list[FieldError]:
    """A pod may be bound to a node once; beyond that, only its images, deadlines and further tolerations may change."""
    after, before = _fixed_part(spec), _fixed_part(old)
    if not old.get("nodeName"):
        after.pop("nodeName", None)
        before.pop("nodeName", None)
    found = [] if after == before else [fields.forbidden("spec", f"{_FIXED}\n{_difference(before, after)}")]
    if any(toleration not in spec.get("tolerations", []) for toleration in old.get("tolerations", [])):
        found.append(
            fields.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        )
    return found


def _fixed_part(spec: Object) -> Object:
    fixed = {key: value for key, value in spec.items() if key not in _MAY_CHANGE}
    for kind in ("containers", "initContainers"):
        fixed[kind] = [{key: value for key, value in each.items() if key != "image"} for each in spec.get(kind, [])]
    return fixed


def _difference(before: Any, after: Any, path: str = "spec") -> str:
    """The innermost fields that differ, one a line: what the user has to take back."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
        return "\n".join(_difference(before.get(key), after.get(key), f"{path}.{key}") for key in keys)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        changed = [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
        return "\n".join(_difference(before[i], after[i], f"{path}[{i}]") for i in changed)
    return f"{path}: was {before!r}, is {after!r}"
