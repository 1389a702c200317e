"""The network configurations a plugin is checked with. Pure.

The kit gives each check a network name and a state folder (`dataDir`, `ipam.dataDir`) of its own, so that neither the
machine's real networks nor an earlier check are in the way.
"""

from collections.abc import Mapping
from typing import Any

from cni.conform.verdict import NotApplicable
from cni.spec import IPAM_TYPE, PLUGIN_TYPE

Conf = dict[str, Any]

SUBNET = "10.213.0.0/24"
GATEWAY = "10.213.0.1"
ROUTE = "198.51.100.0/24"  # RFC 5737: leads nowhere
UNREACHABLE = "203.0.113.1"  # on no network of the pod's: no route can lead through it
_FIRST = 10
_RANGED = frozenset({"host-local", IPAM_TYPE})


def default(plugin: str) -> Conf:
    """A bridge-like network; podwire gives addresses itself, others through the reference host-local."""
    ipam = IPAM_TYPE if plugin == PLUGIN_TYPE else "host-local"
    return {
        "type": plugin,
        "bridge": "conform0",
        "isGateway": True,
        "ipam": {"type": ipam, "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": ROUTE, "gw": GATEWAY}]},
    }


def of_check(template: Mapping[str, Any], *, name: str, version: str, state: str) -> Conf:
    """The template as one check's own network."""
    conf = {**template, "name": name, "cniVersion": version, "dataDir": state}
    if isinstance(template.get("ipam"), dict) and template["ipam"]:
        conf["ipam"] = {**template["ipam"], "dataDir": state}
    return conf


def with_addresses(conf: Mapping[str, Any], count: int) -> Conf:
    """The configuration with a pool of exactly so many addresses."""
    legacy = {"subnet", "rangeStart", "rangeEnd", "gateway"}  # host-local's single range, beside its ranges
    ipam = {key: value for key, value in pool(conf).items() if key not in legacy}
    ends = {"rangeStart": f"10.213.0.{_FIRST}", "rangeEnd": f"10.213.0.{_FIRST + count - 1}"}
    return {**conf, "ipam": {**ipam, "ranges": [[{"subnet": SUBNET, **ends}]]}}


def with_routes(conf: Mapping[str, Any], *routes: Mapping[str, str]) -> Conf:
    return {**conf, "ipam": {**pool(conf), "routes": list(routes)}}


def pool(conf: Mapping[str, Any]) -> Conf:
    """The ipam object of a configuration whose addresses come from ranges. Raises NotApplicable for others."""
    ipam = conf.get("ipam")
    if not isinstance(ipam, dict) or ipam.get("type") not in _RANGED:
        raise NotApplicable(f"ipam.type is none of {', '.join(sorted(_RANGED))}: the kit cannot size its pool")
    return ipam
