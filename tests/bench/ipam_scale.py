"""One more address when 20,000 are given: podwire's leases against host-local's files, each in its own format.

Once as the agent does it, in a warm process, and once as a runtime does it, executing the IPAM plugin.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from ipam.lease import Attachment, Claim, Lease, LeasedAddress, Sandbox, State
from ipam.leases import Leases
from ipam.pool import Pool
from tests import namespaces
from tests.bench.cni_place import agent
from tests.bench.timing import Comparison, compare, timed
from tests.cni_node import environment
from tests.cni_plugin import PluginNode

TITLE = "An address when many are given"
HOST_LOCAL = "/usr/lib/cni/host-local"
SUBNET = ip_network("10.64.0.0/16")
SIZES = ((1, 20), (20_000, 10))


def measure() -> Iterator[Comparison]:
    for count, rounds in SIZES:
        with _node() as node:
            held = [SUBNET[2 + number] for number in range(count)]
            _fill_ours(node.state, held)
            theirs = _fill_theirs(node.directory, held)
            yield compare(
                f"given and freed in the agent, {count:,} leases",
                lambda node=node: _in_process(node.state),
                lambda node=node, theirs=theirs: _executed(node, HOST_LOCAL, theirs),
                rounds=rounds,
            )
            yield compare(
                f"given and freed by the executable, {count:,} leases",
                lambda node=node: _executed(node, str(node.executable.with_name("podwire-ipam")), node.state),
                lambda node=node, theirs=theirs: _executed(node, HOST_LOCAL, theirs),
                rounds=rounds,
            )


@contextlib.contextmanager
def _node() -> Iterator[PluginNode]:
    with namespaces.namespace("node") as place, tempfile.TemporaryDirectory() as directory:
        node = PluginNode(place, Path(directory))
        with agent(place, node.socket_path):
            yield node


def _claim(container: str) -> Claim:
    return Claim(
        attachment=Attachment(network="scale", container_id=container, ifname="eth0"),
        token=container,
        sandbox=Sandbox(device=0, inode=0, boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip()),
        host_veth="",
        owner=container,
    )


def _fill_ours(directory: Path, held: list[IPv4Address]) -> None:
    leases = [
        Lease(
            claim=_claim(f"c{address}"),
            addresses=(LeasedAddress(address=address, network=SUBNET, gateway=SUBNET[1]),),
            state=State.ACTIVE,
        )
        for address in held
    ]
    with Leases(directory) as opened:
        opened.begin_boot(leases[0].claim.sandbox.boot_id)
        opened.adopt(leases)


def _fill_theirs(directory: Path, held: list[IPv4Address]) -> Path:
    folder = directory / "host-local" / "scale"
    folder.mkdir(parents=True)
    for address in held:
        (folder / str(address)).write_text(f"c{address}\r\neth0")
    (folder / "last_reserved_ip.0").write_text(str(held[-1]))
    return folder.parent


def _in_process(directory: Path) -> float:
    pool = Pool.of(SUBNET, gateway=SUBNET[1])
    with Leases(directory) as leases:
        leases.of("warm")
        return timed(lambda: leases.release(leases.assign([[pool]], _claim("one-more"))))


def _executed(node: PluginNode, executable: str, directory: Path) -> float:
    conf = {"cniVersion": "1.0.0", "name": "scale", "type": "bridge"}
    ipam = {"type": Path(executable).name, "dataDir": str(directory), "ranges": [[{"subnet": str(SUBNET)}]]}
    stdin = json.dumps({**conf, "ipam": ipam}).encode()

    def call(command: str) -> None:
        environ = {**environment(command, "one-more", "/run/netns/one-more"), "PATH": os.environ["PATH"]}
        done = subprocess.run([executable], env=environ, input=stdin, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{executable} {command}: {done.stdout.decode()}{done.stderr.decode()}")

    # From a thread inside the namespace: nothing but the plugin is timed.
    return node.namespace.call(lambda: timed(lambda: (call("ADD"), call("DEL"))))
