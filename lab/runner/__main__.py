"""The process of a lab node's runner: pods bound to the node become namespaces and processes."""

import os
import sys
from pathlib import Path

import click

from kube.connection import ConnectionConfigError, from_kubeconfig
from kube.http import Client
from lab import processes
from lab.runner.launcher import Launcher
from lab.runner.network import PluginNetwork
from lab.runner.records import Records
from lab.runner.runtime import ProcessRuntime
from lab.runner.sandboxes import Sandboxes
from pods import logs, runner
from pods.publisher import Publisher
from pods.worker import PodHost


def _own_marks() -> dict[str, str]:
    """What every process of a pod inherits from this one: where programs are, and whose lab it is."""
    names = ("PATH", "HOME", "LANG", "TZ", processes.LAB)
    return {name: os.environ[name] for name in names if name in os.environ}


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--node-name", required=True)
@click.option("--node-ip", metavar="ADDRESS[,ADDRESS]", required=True)
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--netns-prefix", required=True, help="How the names of the pods' namespaces begin.")
@click.option("--cni-conf-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--cni-bin-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(  # noqa: PLR0913, PLR0917 - one per option
    kubeconfig: Path,
    node_name: str,
    node_ip: str,
    state_dir: Path,
    netns_prefix: str,
    cni_conf_dir: Path,
    cni_bin_dir: Path,
) -> None:
    """Run the pods that are bound to this node."""
    logs.configure()
    os.chdir("/")
    try:
        client = Client(from_kubeconfig(kubeconfig), user_agent=f"podwire-lab-runner/{node_name}")
    except ConnectionConfigError as error:
        sys.exit(f"podwire lab runner: {error}")
    addresses = tuple(node_ip.split(","))
    records = Records(state_dir)
    network = PluginNetwork(conf_dir=cni_conf_dir, bin_dir=cni_bin_dir, cache_dir=state_dir / "cni-cache")
    runtime = ProcessRuntime(
        sandboxes=Sandboxes(prefix=netns_prefix, records=records, network=network),
        launcher=Launcher(records=records, variables=_own_marks(), host=addresses[0]),
    )
    host = PodHost(addresses=addresses, runtime=runtime, publisher=Publisher(client))
    runner.serve(host, client, node_name)


if __name__ == "__main__":
    main()
