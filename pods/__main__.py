"""podwire-pods: the process around the runner of a node with a container runtime. Logs go to stderr as key=value."""

import socket
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

import click
import structlog

from kube.connection import ConnectionConfigError, from_kubeconfig
from kube.errors import ApiError, Unreachable
from kube.http import Client
from kube.objects import Node
from kube.resources import NODES
from pods import logs, runner
from pods.cri.client import CriClient
from pods.cri.configs import Place
from pods.cri.runtime import CriRuntime
from pods.publisher import Publisher
from pods.worker import PodHost

log = structlog.get_logger(__name__)


def _addresses(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    try:
        return tuple(str(ip_address(text)) for text in value.split(",")) if value else ()
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from None


@click.command(context_settings={"show_default": True})
@click.version_option(package_name="podwire")
@click.option("--kubeconfig", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--node-name", default=lambda: socket.gethostname().lower(), show_default="host name")
@click.option(
    "--node-ip",
    "node_ips",
    metavar="ADDRESS[,ADDRESS]",
    callback=_addresses,
    help="By default the addresses podwire-node registered the node with.",
)
@click.option("--runtime-endpoint", default="unix:///run/containerd/containerd.sock")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/log/podwire/pods"),
    help="Of the containers' output.",
)
@click.option("--cgroup-parent", default="/podwire", help="With the runtime's systemd driver: a slice.")
@click.option("--pull/--no-pull", default=True, help="Whether images that are not here are fetched.")
def main(
    kubeconfig: Path,
    node_name: str,
    *,
    node_ips: tuple[str, ...],
    runtime_endpoint: str,
    pull: bool,
    **places: Path | str,
) -> None:
    """Run the pods that are bound to this node in a container runtime."""
    logs.configure()
    try:
        client = Client(from_kubeconfig(kubeconfig), user_agent=f"podwire-pods/{node_name}")
    except ConnectionConfigError as error:
        sys.exit(f"podwire-pods: {error}")
    addresses = node_ips or _await_addresses(client, node_name)
    place = Place(
        node=node_name,
        hosts=addresses,
        logs=Path(places["log_dir"]).absolute(),
        cgroup_parent=str(places["cgroup_parent"]),
    )
    runtime = CriRuntime(CriClient(runtime_endpoint), place, pull=pull)
    runner.serve(PodHost(addresses=addresses, runtime=runtime, publisher=Publisher(client)), client, node_name)


def _await_addresses(client: Client, node_name: str) -> tuple[str, ...]:
    """Wait for the Node to have one; SIGTERM ends the process as nothing has begun."""
    pause, said = threading.Event(), ""
    while True:
        try:
            node = client.get(NODES, node_name, None, decode=Node)
            found = [each.address for each in node.status.addresses if each.type == "InternalIP"]
            problem = f"the Node {node_name!r} has no InternalIP"
        except (ApiError, Unreachable) as error:
            found, problem = [], str(error)
        if found:
            return tuple(found)
        if problem != said:
            log.warning("the node's addresses are not known yet", error=problem)
        said = problem
        pause.wait(1.0)


if __name__ == "__main__":
    main()
