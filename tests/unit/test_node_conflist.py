"""The network configuration and the way it is put in place.

Address plan: podCIDR 10.244.1.0/24.
"""

import json
import os
import threading
from ipaddress import ip_network
from pathlib import Path

import pytest

from node import atomic_file, conflist

NETWORK = conflist.PodNetwork(
    pod_cidr=ip_network("10.244.1.0/24"), mtu=1400, directory=Path("/var/lib/podwire/node/cni")
)


def test_the_conflist_names_network_bridge_subnet_and_default_route() -> None:
    assert json.loads(conflist.render(NETWORK)) == {
        "cniVersion": "1.0.0",
        "name": "podwire",
        "plugins": [
            {
                "type": "podwire",
                "bridge": "podwire0",
                "mtu": 1400,
                "isGateway": True,
                "isDefaultGateway": True,
                "hairpinMode": True,
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


def test_the_podcidr_is_read_back() -> None:
    assert conflist.pod_cidrs(conflist.render(NETWORK)) == {ip_network("10.244.1.0/24")}


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b"\xff", b'{"plugins": [{"ipam": {"ranges": [[{"subnet": "x"}]]}}]}']
)
def test_nothing_is_read_out_of_garbage(garbage: bytes) -> None:
    assert conflist.pod_cidrs(garbage) == frozenset()


def test_an_absent_file_is_empty(tmp_path: Path) -> None:
    assert atomic_file.read(tmp_path / "none") == b""


def test_folders_are_made_and_the_content_is_there(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "a" / "b", b"text")
    assert atomic_file.read(tmp_path / "a" / "b") == b"text"


def test_a_reader_sees_the_old_or_the_new_content_and_never_a_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([letter]) * 100_000 for letter in b"ab"]
    atomic_file.write(path, contents[0])
    writer = threading.Thread(target=lambda: [atomic_file.write(path, contents[turn % 2]) for turn in range(50)])
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(atomic_file.read(path))
    assert seen <= set(contents)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        atomic_file.write(tmp_path / "file", b"text")
    assert os.listdir(tmp_path) == ["file"]
