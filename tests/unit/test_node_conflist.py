"""The network configuration and the way it is put in place.

Address plan: podCIDR 10.244.1.0/24.
"""

import dataclasses
import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from node import conflist

NETWORK = conflist.PodNetwork(
    pod_cidrs=(ip_network("10.244.1.0/24"),), mtu=1400, directory=Path("/var/lib/podwire/node/cni")
)


def test_the_conflist_names_network_bridge_subnet_and_default_route() -> None:
    assert json.loads(conflist.render(NETWORK)) == {
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "podwire",
        "plugins": [
            {
                "type": "podwire",
                "capabilities": {"bandwidth": True, "portMappings": True},
                "bridge": "podwire0",
                "mtu": 1400,
                "isGateway": True,
                "isDefaultGateway": True,
                "hairpinMode": True,
                "sourceCheck": True,
                "ipMasq": False,
                "dataDir": "/var/lib/podwire/node/cni",
                "ipam": {
                    "type": "podwire-ipam",
                    "ranges": [[{"subnet": "10.244.1.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def test_a_kernel_without_gates_is_not_asked_for_them() -> None:
    [plugin] = json.loads(conflist.render(dataclasses.replace(NETWORK, has_gates=False)))["plugins"]
    assert (plugin["sourceCheck"], plugin["capabilities"]["bandwidth"]) == (False, False)


def test_the_podcidr_is_read_back() -> None:
    assert conflist.pod_cidrs(conflist.render(NETWORK)) == {ip_network("10.244.1.0/24")}


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b"\xff", b'{"plugins": [{"ipam": {"ranges": [[{"subnet": "x"}]]}}]}']
)
def test_nothing_is_read_out_of_garbage(garbage: bytes) -> None:
    assert conflist.pod_cidrs(garbage) == frozenset()
