"""Which address families a Service has: from its policy, its addresses, and what the cluster offers.

The rules are those of kube-apiserver (pkg/registry/core/service/storage/alloc.go, initIPFamilyFields). A Service only
moves between one family and two when somebody says so: by its policy, or by naming or dropping the second one.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from api.model import Object
from api.resources.service import needs

FAMILIES = ("IPv4", "IPv6")
SINGLE, PREFER, REQUIRE = POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def family_of(address: str) -> str:
    """The family of an address as the API calls it; "" for what is none, such as `None`."""
    try:
        return f"IPv{ip_address(address).version}"
    except ValueError:
        return ""


def complete(spec: Object, before: Object, offered: Sequence[str]) -> None:
    """Fill in policy and families, in place; `offered` are the cluster's, its main one first."""
    if _is_as_before(spec, before):
        return
    spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or _default_policy(spec)
    if spec["ipFamilyPolicy"] == SINGLE:
        _let_go_of_second(spec, before)
    was_reduced = 0 < len(spec.get("ipFamilies", [])) < len(before.get("ipFamilies", []))
    families = list(spec["ipFamilies"]) if was_reduced else _inferred(spec)
    if needs.is_headless(spec) and not spec.get("selector"):  # only its own slices say where it leads
        offered = [*offered, *(family for family in FAMILIES if family not in offered)]
    families = families or list(offered[:1])
    # Whoever drops the second family without a word about the policy is told so, and does not get it back.
    if spec["ipFamilyPolicy"] in {PREFER, REQUIRE} and len(families) == 1 and not was_reduced:
        families += [family for family in offered if family not in families]
    spec["ipFamilies"] = families


def _is_as_before(spec: Object, before: Object) -> bool:
    """A PreferDualStack Service stays as it is when the cluster has become dual-stack, or is no longer."""
    is_preferring = spec.get("ipFamilyPolicy") == before.get("ipFamilyPolicy") == PREFER
    same = all(spec.get(key) == before.get(key) for key in ("type", "clusterIPs", "ipFamilies"))
    return is_preferring and same and bool(spec.get("ipFamilies"))


def _default_policy(spec: Object) -> str:
    return REQUIRE if needs.is_headless(spec) and not spec.get("selector") else SINGLE


def _let_go_of_second(spec: Object, before: Object) -> None:
    """SingleStack beside two unchanged values clearly means: without the second."""
    for key in ("clusterIPs", "ipFamilies"):
        if len(spec.get(key, [])) > 1 and spec[key] == before.get(key):
            spec[key] = spec[key][:1]


def _inferred(spec: Object) -> list[str]:
    families = list(spec.get("ipFamilies", []))
    for address in spec.get("clusterIPs", [])[len(families) :]:
        family = family_of(address)
        if family and family not in families:
            families.append(family)
    return families
