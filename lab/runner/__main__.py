"""The runner's process: pods bound to this node, as the API has them, become PodWorkers.

Nothing is done before the list of pods is complete: until then nobody can say which of the pods on the node are to
stay. SIGTERM ends the runner and leaves the pods running; its successor adopts them.
"""

import os
import signal
import sys
import threading
from ipaddress import IPv4Address
from pathlib import Path

import click
import structlog

from kube.connection import ConnectionConfigError, from_kubeconfig
from kube.http import Client
from kube.informer import Informer
from kube.objects import Pod
from kube.resources import PODS
from lab import logs, processes
from lab.runner.containers import Launcher
from lab.runner.network import PluginNetwork
from lab.runner.pod import PodHost, PodWorker
from lab.runner.publisher import PodKey, Publisher, key_of
from lab.runner.record import SandboxRecord
from lab.runner.records import Records
from lab.runner.sandboxes import Sandboxes

log = structlog.get_logger(__name__)


class Runner:
    """The workers of all pods of the node, by pod."""

    def __init__(self, host: PodHost) -> None:
        self._host = host
        self._workers: dict[PodKey, PodWorker] = {}
        self._changing = threading.Lock()
        self._left: dict[PodKey, SandboxRecord] = {
            PodKey(record.namespace, record.name, record.uid): record for record in host.records.all()
        }

    def on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Give the object to its worker. The same name with another uid is another pod: the old one is gone."""
        with self._changing:
            if old is not None and (new is None or key_of(old) != key_of(new)):
                self._tell(key_of(old), None)
            if new is not None:
                self._tell(key_of(new), new)

    def remove_unknown(self) -> None:
        """Take down what earlier runners left of pods that the API no longer knows."""
        with self._changing:
            for key in tuple(self._left):
                log.info("pod is gone from the API", pod=f"{key.namespace}/{key.name}")
                self._tell(key, None)

    def stop(self) -> None:
        with self._changing:
            workers = tuple(self._workers.values())
        for worker in workers:
            worker.stop()

    def _tell(self, key: PodKey, pod: Pod | None) -> None:
        record = self._left.pop(key, None)
        if worker := self._workers.get(key):
            worker.update(pod)
        elif pod is not None or record is not None:
            worker = PodWorker(key, self._host, record=record, on_end=self._forget)
            self._workers[key] = worker
            worker.start(pod)

    def _forget(self, key: PodKey) -> None:
        with self._changing:
            self._workers.pop(key, None)


def _own_marks() -> dict[str, str]:
    """What every process of a pod inherits from this one: where programs are, and whose lab it is."""
    names = ("PATH", "HOME", "LANG", "TZ", processes.LAB)
    return {name: os.environ[name] for name in names if name in os.environ}


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--node-name", required=True)
@click.option("--node-ip", type=IPv4Address, required=True)
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--netns-prefix", required=True, help="How the names of the pods' namespaces begin.")
@click.option("--cni-conf-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--cni-bin-dir", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(  # noqa: PLR0913, PLR0917 - one per option
    kubeconfig: Path,
    node_name: str,
    node_ip: IPv4Address,
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
    records = Records(state_dir)
    publisher = Publisher(client)
    host = PodHost(
        address=str(node_ip),
        sandboxes=Sandboxes(
            prefix=netns_prefix,
            records=records,
            network=PluginNetwork(conf_dir=cni_conf_dir, bin_dir=cni_bin_dir, cache_dir=state_dir / "cni-cache"),
        ),
        records=records,
        launcher=Launcher(records=records, variables=_own_marks()),
        publisher=publisher,
    )
    _serve(Runner(host), client, node_name, publisher)


def _serve(runner: Runner, client: Client, node_name: str, publisher: Publisher) -> None:
    """Follow the node's pods until SIGTERM."""
    pods = Informer(client, PODS, Pod, field_selector=f"spec.nodeName={node_name}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    publisher.start()
    pods.cache.subscribe(runner.on_pod)
    pods.start()
    while not pods.cache.synced.wait(0.5):
        if stop.is_set():
            return
    runner.remove_unknown()
    stop.wait()
    pods.stop()
    runner.stop()
    publisher.stop()


if __name__ == "__main__":
    main()
