"""Field numbers of the messages that are understood, as in Kubernetes' generated.proto files."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from api.protobuf.wire import Fields, int_or_text, many, number, one, raw, text, text_map, texts, time, truth

# k8s.io/apimachinery/pkg/runtime.Unknown and TypeMeta
ENVELOPE: Final[Fields] = {
    1: one("typeMeta", {1: text("apiVersion"), 2: text("kind")}),
    2: raw("raw"),
    3: text("contentEncoding"),
    4: text("contentType"),
}

# k8s.io/apimachinery/pkg/apis/meta/v1
_OWNER: Final[Fields] = {
    1: text("kind"),
    3: text("name"),
    4: text("uid"),
    5: text("apiVersion"),
    6: truth("controller", keeps_zero=True),
    7: truth("blockOwnerDeletion", keeps_zero=True),
}
_METADATA: Final = one(
    "metadata",
    {
        1: text("name"),
        2: text("generateName"),
        3: text("namespace"),
        4: text("selfLink"),
        5: text("uid"),
        6: text("resourceVersion"),
        7: number("generation"),
        8: time("creationTimestamp"),
        9: time("deletionTimestamp"),
        10: number("deletionGracePeriodSeconds", keeps_zero=True),
        11: text_map("labels"),
        12: text_map("annotations"),
        13: many("ownerReferences", _OWNER),
        14: texts("finalizers"),
    },
)
_CONDITION: Final[Fields] = {
    1: text("type"),
    2: text("status"),
    3: number("observedGeneration"),
    4: time("lastTransitionTime"),
    5: text("reason"),
    6: text("message"),
}
_DELETE_OPTIONS: Final[Fields] = {
    1: number("gracePeriodSeconds", keeps_zero=True),
    2: one("preconditions", {1: text("uid"), 2: text("resourceVersion")}),
    3: truth("orphanDependents", keeps_zero=True),
    4: text("propagationPolicy"),
    5: texts("dryRun"),
    6: truth("ignoreStoreReadErrorWithClusterBreakingPotential", keeps_zero=True),
}

# k8s.io/api/core/v1
_NAMESPACE_CONDITION: Final[Fields] = {
    1: text("type"),
    2: text("status"),
    4: time("lastTransitionTime"),
    5: text("reason"),
    6: text("message"),
}
_NAMESPACE: Final[Fields] = {
    1: _METADATA,
    2: one("spec", {1: texts("finalizers")}),
    3: one("status", {1: text("phase"), 2: many("conditions", _NAMESPACE_CONDITION)}),
}
_SERVICE_PORT: Final[Fields] = {
    1: text("name"),
    2: text("protocol"),
    3: number("port"),
    4: int_or_text("targetPort"),
    5: number("nodePort"),
    6: text("appProtocol"),
}
_SERVICE_SPEC: Final[Fields] = {
    1: many("ports", _SERVICE_PORT),
    2: text_map("selector"),
    3: text("clusterIP"),
    4: text("type"),
    5: texts("externalIPs"),
    7: text("sessionAffinity"),
    8: text("loadBalancerIP"),
    9: texts("loadBalancerSourceRanges"),
    10: text("externalName"),
    11: text("externalTrafficPolicy"),
    12: number("healthCheckNodePort"),
    13: truth("publishNotReadyAddresses"),
    14: one("sessionAffinityConfig", {1: one("clientIP", {1: number("timeoutSeconds", keeps_zero=True)})}),
    17: text("ipFamilyPolicy"),
    18: texts("clusterIPs"),
    19: texts("ipFamilies"),
    20: truth("allocateLoadBalancerNodePorts", keeps_zero=True),
    21: text("loadBalancerClass"),
    22: text("internalTrafficPolicy"),
    23: text("trafficDistribution"),
}
_PORT_STATUS: Final[Fields] = {1: number("port"), 2: text("protocol"), 3: text("error")}
_INGRESS: Final[Fields] = {1: text("ip"), 2: text("hostname"), 3: text("ipMode"), 4: many("ports", _PORT_STATUS)}
_SERVICE: Final[Fields] = {
    1: _METADATA,
    2: one("spec", _SERVICE_SPEC),
    3: one("status", {1: one("loadBalancer", {1: many("ingress", _INGRESS)}), 2: many("conditions", _CONDITION)}),
}
_REFERENCE: Final[Fields] = {
    1: text("kind"),
    2: text("namespace"),
    3: text("name"),
    4: text("uid"),
    5: text("apiVersion"),
    6: text("resourceVersion"),
    7: text("fieldPath"),
}
_EVENT: Final[Fields] = {
    1: _METADATA,
    2: one("involvedObject", _REFERENCE),
    3: text("reason"),
    4: text("message"),
    5: one("source", {1: text("component"), 2: text("host")}),
    6: time("firstTimestamp"),
    7: time("lastTimestamp"),
    8: number("count"),
    9: text("type"),
    10: time("eventTime"),
    11: one("series", {1: number("count"), 2: time("lastObservedTime")}),
    12: text("action"),
    13: one("related", _REFERENCE),
    14: text("reportingComponent"),
    15: text("reportingInstance"),
}

TOP: Final[Mapping[tuple[str, str], Fields]] = MappingProxyType(
    {
        ("v1", "Namespace"): _NAMESPACE,
        ("v1", "Service"): _SERVICE,
        ("v1", "Event"): _EVENT,
        ("v1", "DeleteOptions"): _DELETE_OPTIONS,
        ("meta.k8s.io/v1", "DeleteOptions"): _DELETE_OPTIONS,
    }
)
