"""The address families this machine speaks: kube-proxy's own test, so that IPv6 is served where kube-proxy would."""

from pathlib import Path
from typing import Final

from dataplane import sysctl
from dataplane.errors import NotFound
from dataplane.nft.objects import Family

_IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
_IPV6_SWITCH: Final = "net/ipv6/conf/all/disable_ipv6"


def families(ipv6_addresses: Path = _IPV6_ADDRESSES) -> tuple[Family, ...]:
    """IPv4, and IPv6 unless the kernel has none or it is switched off."""
    if not ipv6_addresses.exists():
        return (Family.IP,)
    try:
        is_off = sysctl.read(_IPV6_SWITCH) == "1"
    except NotFound:
        is_off = True
    return (Family.IP,) if is_off else (Family.IP, Family.IP6)
