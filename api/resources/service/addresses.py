"""What is wrong with a Service's families and cluster IPs, or with changing them."""

from collections.abc import Sequence

from api.model import Object
from api.resources import fields
from api.resources.service import families, needs
from kube.errors import FieldError

_ONCE = "may not change once set"
_IPS, _FAMILIES, _POLICY = "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"


def errors(spec: Object, before: Object, offered: Sequence[str]) -> list[FieldError]:
    """For a settled Service of a type with addresses; `before` is its former spec if that was of such a type, too."""
    return (
        _cluster_ips(spec)
        or _well_formed(spec)
        or [*_policy(spec, before), *_offered(spec, before, offered), *_change(spec, before)]
    )


def _cluster_ips(spec: Object) -> list[FieldError]:
    addresses, first = spec.get("clusterIPs", []), spec.get("clusterIP", "")
    if not first:
        why = "must be empty when `clusterIP` is not specified"
        return [fields.invalid(_IPS, addresses, why)] if addresses else []
    if addresses[:1] != [first]:
        return [fields.invalid(_IPS, addresses, "first value must match `clusterIP`")]
    if needs.is_headless(spec):
        return _headless(spec, addresses)
    found = [error for i, address in enumerate(addresses) for error in fields.ip(f"{_IPS}[{i}]", address)[1]]
    return found or _one_of_each_family(addresses)


def _one_of_each_family(addresses: Sequence[str]) -> list[FieldError]:
    if len(addresses) > len(families.FAMILIES):
        return [fields.invalid(_IPS, addresses, "may only hold up to 2 values")]
    if len({families.family_of(address) for address in addresses}) < len(addresses):
        return [fields.invalid(_IPS, addresses, "may specify no more than one IP for each IP family")]
    return []


def _headless(spec: Object, addresses: list[str]) -> list[FieldError]:
    if len(addresses) > 1:
        return [fields.invalid(_IPS, addresses, "'None' must be the first and only value")]
    if spec["type"] == "ClusterIP":
        return []
    return [fields.invalid(f"{_IPS}[0]", needs.HEADLESS, f"may not be set to 'None' for {spec['type']} services")]


def _well_formed(spec: Object) -> list[FieldError]:
    named = [(f"{_FAMILIES}[{i}]", family) for i, family in enumerate(spec["ipFamilies"])]
    found = [error for path, family in named for error in fields.one_of(path, family, families.FAMILIES)]
    found += fields.unique(named)
    found += fields.one_of(_POLICY, spec["ipFamilyPolicy"], families.POLICIES)
    return found or _matching(spec)


def _matching(spec: Object) -> list[FieldError]:
    if needs.is_headless(spec):
        return []
    pairs = zip(spec.get("clusterIPs", []), spec["ipFamilies"], strict=False)
    return [
        fields.invalid(f"{_IPS}[{i}]", address, f"expected an {family} value as indicated by `ipFamilies[{i}]`")
        for i, (address, family) in enumerate(pairs)
        if families.family_of(address) != family
    ]


def _policy(spec: Object, before: Object) -> list[FieldError]:
    policy, single = spec["ipFamilyPolicy"], spec["ipFamilyPolicy"] == families.SINGLE
    why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    if not single:
        why = "must be 'SingleStack' to release the secondary {}"
    words = (("clusterIPs", "cluster IPs", "cluster IP"), ("ipFamilies", "IP families", "IP family"))
    found = []
    for key, several, one in words:
        count = len(spec.get(key, []))
        if single and count > 1:
            found.append(fields.invalid(_POLICY, policy, why.format(several)))
        elif not single and 0 < count < len(before.get(key, [])):
            found.append(fields.invalid(_POLICY, policy, why.format(one)))
    return found


def _offered(spec: Object, before: Object, offered: Sequence[str]) -> list[FieldError]:
    """What is new must be offered by the cluster; what a Service has, it keeps."""
    if needs.is_headless(spec) and not spec.get("selector"):
        return []  # without selector and address, families only say what the user's own slices hold
    addresses, had = spec.get("clusterIPs", []), before.get("ipFamilies", [])
    found = []
    for index, family in enumerate(spec["ipFamilies"]):
        if family in offered or family in had:
            continue
        if addresses[index : index + 1] not in ([], [needs.HEADLESS]):
            found.append(fields.invalid(f"{_IPS}[{index}]", addresses, f"{family} is not configured on this cluster"))
        else:
            found.append(fields.invalid(f"{_FAMILIES}[{index}]", family, "not configured on this cluster"))
    is_new = spec["ipFamilyPolicy"] != before.get("ipFamilyPolicy")
    if spec["ipFamilyPolicy"] == families.REQUIRE and len(offered) < len(families.FAMILIES) and is_new:
        why = "this cluster is not configured for dual-stack services"
        found.append(fields.invalid(_POLICY, spec["ipFamilyPolicy"], why))
    return found


def _change(spec: Object, before: Object) -> list[FieldError]:
    found = []
    now, was = spec.get("clusterIPs", []), before.get("clusterIPs", [])
    for index, (address, former) in enumerate(zip(now, was, strict=False)):
        if address != former:
            found.append(fields.invalid(f"{_IPS}[{index}]", now, _ONCE))
    if was and not now:
        found.append(fields.invalid(f"{_IPS}[0]", now, _ONCE))
    now, was = spec["ipFamilies"], before.get("ipFamilies", [])
    if was and now[0] != was[0] and (spec.get("selector") or not needs.is_headless(spec)):
        found.append(fields.invalid(f"{_FAMILIES}[0]", now, _ONCE))
    return found
