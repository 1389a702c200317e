"""Fields that Kubernetes knows and those it does not: a misspelt field must not be stored in silence.

kubectl leaves this to the server (fieldValidation=Strict). Names are listed as deep as podwire's users write them;
below a member marked ANYTHING nothing is checked.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from api.model import Object
from kube.errors import BadRequest
from kube.resources import ResourceType

Known = Mapping[str, Any]
ANYTHING: Final = None
MODES: Final = ("Ignore", "Warn", "Strict")
# So many at a time are told.
_MOST_TOLD: Final = 10


def _names(text: str, **members: Known | None) -> Known:
    """Members by name, of which only the keywords are looked into."""
    return MappingProxyType(dict.fromkeys(text.split(), ANYTHING) | members)


_METADATA: Final = _names(
    "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp "
    "deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields"
)
_PROBE: Final = _names(
    "exec grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold "
    "terminationGracePeriodSeconds",
    httpGet=_names("path port host scheme httpHeaders"),
    tcpSocket=_names("port host"),
)
_CONTAINER: Final = _names(
    "name image command args workingDir envFrom resources resizePolicy restartPolicy restartPolicyRules volumeMounts "
    "volumeDevices lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin "
    "stdinOnce tty targetContainerName",
    ports=_names("name hostPort containerPort protocol hostIP"),
    env=_names("name value valueFrom"),
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    startupProbe=_PROBE,
)
_POD: Final = _names(
    "volumes restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector "
    "serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC "
    "shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity schedulerName tolerations "
    "hostAliases priorityClassName priority dnsConfig readinessGates runtimeClassName enableServiceLinks "
    "preemptionPolicy overhead topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates "
    "resourceClaims resources hostnameOverride workloadRef schedulingGroup",
    containers=_CONTAINER,
    initContainers=_CONTAINER,
    ephemeralContainers=_CONTAINER,
)
_SERVICE: Final = _names(
    "selector clusterIP clusterIPs type externalIPs sessionAffinity loadBalancerIP loadBalancerSourceRanges "
    "externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses ipFamilies ipFamilyPolicy "
    "allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution",
    ports=_names("name protocol port targetPort nodePort appProtocol"),
    sessionAffinityConfig=_names("", clientIP=_names("timeoutSeconds")),
)
_ENDPOINT: Final = _names(
    "addresses hostname targetRef deprecatedTopology nodeName zone",
    conditions=_names("ready serving terminating"),
    hints=_names("forZones forNodes"),
)
_OBJECT: Final = MappingProxyType({"kind": ANYTHING, "apiVersion": ANYTHING, "metadata": _METADATA})
_KINDS: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "Namespace": {**_OBJECT, "spec": _names("finalizers"), "status": ANYTHING},
        "Node": {
            **_OBJECT,
            "spec": _names("podCIDR podCIDRs providerID unschedulable taints configSource externalID"),
            "status": ANYTHING,
        },
        "Pod": {**_OBJECT, "spec": _POD, "status": ANYTHING},
        "Service": {**_OBJECT, "spec": _SERVICE, "status": ANYTHING},
        "EndpointSlice": {
            **_OBJECT,
            "addressType": ANYTHING,
            "endpoints": _ENDPOINT,
            "ports": _names("name protocol port appProtocol"),
        },
        "ServiceCIDR": {**_OBJECT, "spec": _names("cidrs"), "status": ANYTHING},
        "Lease": {
            **_OBJECT,
            "spec": _names(
                "holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy preferredHolder"
            ),
        },
        "Event": {
            **_OBJECT,
            **_names(
                "involvedObject reason message source firstTimestamp lastTimestamp count type eventTime series action "
                "related reportingComponent reportingInstance"
            ),
        },
    }
)


def unknown(resource: ResourceType, obj: Object) -> list[str]:
    """Paths of fields that this kind does not have."""
    known = _KINDS.get(resource.kind)
    return [] if known is None else list(_unknown(obj, known, ""))


def _unknown(value: Any, known: Known | None, path: str) -> Iterator[str]:
    if known is ANYTHING:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, known, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, member in value.items():
            where = f"{path}.{key}" if path else key
            if key in known:
                yield from _unknown(member, known[key], where)
            else:
                yield where


class FieldValidation:
    """What a client wants to happen with fields nobody knows: refuse, warn, or nothing."""

    def __init__(self, resource: ResourceType, mode: str | None) -> None:
        self._mode = mode or "Warn"
        if self._mode not in MODES:
            raise BadRequest(f"fieldValidation must be one of {', '.join(MODES)}, not {mode!r}")
        self._resource = resource
        self.warnings: list[str] = []

    def check(self, obj: Object) -> Object:
        """The object, if it may be written; remembers what to warn of."""
        found = unknown(self._resource, obj) if self._mode != "Ignore" else []
        self.warnings = [f'unknown field "{path}"' for path in found[:_MOST_TOLD]]
        if found and self._mode == "Strict":
            kind, version = self._resource.kind, self._resource.version
            listed = ", ".join(self.warnings)
            raise BadRequest(
                f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {listed}'
            )
        return obj
