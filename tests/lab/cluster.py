"""A lab under test, seen from outside: the command line, kubectl, sockets and files. None of the lab's own code."""

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ipam.leases import Leases
from tests.namespaces import Namespace
from tests.waiting import eventually

KUBECTL = str(Path(sys.executable).with_name("kubectl"))
PODWIRE = str(Path(sys.executable).with_name("podwire"))
ECHO_PORT = 8080
ROOTS = "pwt-"  # then the process id of the tests
SECONDS = 30  # for an answer: it costs nothing when there is one
# Outside the ranges of ephemeral ports and node ports, and never the same twice: what comes again from a port within
# seconds belongs to the same flow for UDP, and goes to the same endpoint.
_client_ports = itertools.count(10_000)


def destroy_abandoned() -> None:
    """Take down the labs of tests that were killed before they could."""
    for root in Path(tempfile.gettempdir()).glob(f"{ROOTS}*-*"):
        pid = root.name.removeprefix(ROOTS).partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            argv = [PODWIRE, "lab", "down", "--all", "--state-root", str(root)]
            subprocess.run(argv, capture_output=True, timeout=250)
            shutil.rmtree(root, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class PodSeen:
    """A pod as kubectl shows it, with the namespace the lab gave it."""

    name: str
    uid: str
    node: str
    address: str
    ready: bool
    netns: Namespace

    def netns_pids(self) -> list[int]:
        """Return every process in the pod's namespace."""
        shown = subprocess.run(["ip", "netns", "pids", self.netns.name], capture_output=True, text=True, check=True)
        return [int(pid) for pid in shown.stdout.split()]


@dataclasses.dataclass(frozen=True)
class Answer:
    pod: str
    client: str  # the address the pod saw
    own_port: int  # of the client, as it saw it


class Lab:
    """One lab below a folder of its own."""

    def __init__(self, label: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=f"{ROOTS}{os.getpid()}-"))
        self.name = f"{label}{secrets.token_hex(3)}"
        self.directory = self.root / self.name

    def run(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run `podwire lab COMMAND`, as a new shell does."""
        argv = [PODWIRE, "lab", command, "--state-root", str(self.root), "--name", self.name, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=250)
        if check:
            assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
        return done

    def up(self, *arguments: str) -> str:
        return self.run("up", *arguments).stdout

    def destroy(self) -> None:
        self.run("down")
        shutil.rmtree(self.root, ignore_errors=True)

    # --- kubectl

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess:
        environment = os.environ | {"KUBECONFIG": str(self.directory / "kubeconfig")}
        done = subprocess.run(
            [KUBECTL, *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=120
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done

    def get(self, *arguments: str) -> dict:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def apply(self, *objects: dict) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))

    def addresses6(self, namespace: str) -> dict[str, str]:
        """Return the pods' IPv6 addresses, as the API tells them."""
        return {
            pod["metadata"]["name"]: each["ip"]
            for pod in self.get("pods", "--namespace", namespace)["items"]
            for each in pod["status"].get("podIPs", [])
            if ":" in each["ip"]
        }

    def pods(self, namespace: str) -> dict[str, PodSeen]:
        records = self.records()
        found = {}
        for pod in self.get("pods", "--namespace", namespace)["items"]:
            record = records.get(pod["metadata"]["uid"], {})
            address = pod["status"].get("podIP", "")
            # A status that is older than the sandbox it should describe says nothing.
            is_current = address == next(iter(record.get("addresses", ())), None)
            found[pod["metadata"]["name"]] = PodSeen(
                name=pod["metadata"]["name"],
                uid=pod["metadata"]["uid"],
                node=pod["spec"].get("nodeName", ""),
                address=address,
                ready=is_current and is_ready(pod) and "deletionTimestamp" not in pod["metadata"],
                netns=Namespace(record.get("netns", "")),
            )
        return found

    def ready_pods(self, namespace: str, count: int, within: float = 60.0) -> dict[str, PodSeen]:
        """Wait until exactly so many pods exist and all are ready."""

        def complete():
            found = self.pods(namespace)
            return found if len(found) == count and all(pod.ready for pod in found.values()) else None

        return eventually(complete, within=within, every=0.1)

    def cluster_ip(self, namespace: str, name: str) -> str:
        return self.get("service", name, "--namespace", namespace)["spec"]["clusterIP"]

    # --- what the lab wrote down

    def records(self) -> dict[str, dict]:
        """Return the runners' records of pods by uid."""
        found = {}
        for path in self.directory.glob("nodes/*/pods/*.json"):
            try:
                found[path.stem] = json.loads(path.read_text())
            except FileNotFoundError:
                continue
        return found

    def leases(self, node: str) -> list[str]:
        """Return the addresses that are leased on a node."""
        path = self.directory / "nodes" / node / "state" / "cni" / "leases.db"
        if not path.exists():
            return []
        with Leases(path.parent) as leases:
            held = [lease for network in leases.networks() for lease in leases.of(network)]
        return [str(each.address) for lease in held for each in lease.addresses]

    def nodes(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("nodes/*"))

    # --- what the kernel has

    def node(self, name: str) -> Namespace:
        return Namespace(f"pw-{self.name}-{name}")

    @property
    def underlay(self) -> Namespace:
        return Namespace(f"pw-{self.name}")

    def namespaces(self) -> list[str]:
        names = os.listdir("/run/netns")
        return sorted(each for each in names if each == f"pw-{self.name}" or each.startswith(f"pw-{self.name}-"))

    def host_veths(self, node: str) -> list[str]:
        """Return the pods' ends of veths that are in a node."""
        links = json.loads(self.node(node).run("ip", "-json", "link", "show", "type", "veth"))
        return [link["ifname"] for link in links if link["ifname"].startswith("pw")]

    def pids(self, role: str = "") -> list[int]:
        """Return the lab's processes, or those of one role, oldest first."""
        marks = [f"PODWIRE_LAB={self.directory}"] + ([f"PODWIRE_ROLE={role}"] if role else [])
        return sorted((pid for pid in all_pids() if set(marks) <= set(environment(pid))), key=age_rank)

    def components(self) -> dict[str, int]:
        """Return the process of each component; what those started for a moment has the same role."""
        parts = [f"{node}/{part}" for node in self.nodes() for part in ("agent", "proxy", "runner")]
        found = {role: self.pids(role) for role in ("supervisor", "api", *parts)}
        return {role: pids[0] for role, pids in found.items() if pids}

    @contextlib.contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        """A component does not run meanwhile; it does afterwards, whatever happened."""
        self.run("stop", component)
        try:
            yield
        finally:
            self.run("start", component)

    @contextlib.contextmanager
    def unsupervised(self) -> Iterator[None]:
        """Nobody starts again what ends meanwhile; `up` does so afterwards, whatever happened."""
        self.kill("supervisor")
        try:
            yield
        finally:
            said = self.up()
        assert "supervisor started" in said

    def kill(self, role: str) -> None:
        for pid in self.pids(role):
            kill(pid)

    def kill_everywhere(self, part: str) -> None:
        """kill -9 a component on every node; the API server is only one."""
        roles = ["api"] if part == "api" else [f"{node}/{part}" for node in self.nodes()]
        for role in roles:
            assert self.pids(role), f"{role} does not run"
            self.kill(role)

    def assert_no_address_is_double_or_leaked(self) -> None:
        """Leases, pods' interfaces and pods' statuses come to name the same addresses, each once."""

        def books():
            wired = Counter(self._wired_addresses())
            leased = Counter(address for node in self.nodes() for address in self.leases(node))
            veths = sum(len(self.host_veths(node)) for node in self.nodes())
            return wired, leased, Counter(self._told_addresses()), veths

        def agree():
            wired, leased, told, veths = books()
            return wired == leased == told and veths == len(wired) and max(wired.values(), default=1) == 1

        try:
            eventually(agree, every=0.1)
        except AssertionError:
            wired, leased, told, veths = books()
            raise AssertionError(f"wired {wired}\nleased {leased}\ntold {told}\nveths {veths}") from None

    def _wired_addresses(self) -> list[str]:
        found = []
        for record in self.records().values():
            if record["released"]:
                continue
            # The namespace of a pod that is on its way out may be gone, and its interface before it.
            shown = Namespace(record["netns"]).run("ip", "-json", "-4", "address", "show", "dev", "eth0", check=False)
            found += [address["local"] for link in json.loads(shown or "[]") for address in link.get("addr_info", ())]
        return found

    def _told_addresses(self) -> list[str]:
        pods = self.get("pods", "--all-namespaces")["items"]
        return [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]


def is_ready(pod: dict) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def age_rank(pid: int) -> tuple[int, int]:
    """Sort the older process first; ids begin anew at the highest."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid  # proc(5), starttime
    except (FileNotFoundError, ProcessLookupError):
        return sys.maxsize, pid


def kill(pid: int) -> None:
    """kill -9, and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
    eventually(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- traffic


def ask(
    source: Namespace, address: str, port: int = ECHO_PORT, *, udp: bool = False, seconds: float = SECONDS
) -> Answer:
    """Ask the echo program from inside a namespace. Raises OSError."""
    question = _ask_udp if udp else _ask_tcp
    return source.call(lambda: question(address, port, seconds))


def _ask_tcp(address: str, port: int, seconds: float) -> Answer:
    with socket.create_connection((address, port), timeout=seconds) as connection:
        own_port = connection.getsockname()[1]
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    return _parsed(received.partition(b"\r\n\r\n")[2], own_port)


def _ask_udp(address: str, port: int, seconds: float) -> Answer:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        own_port = next(_client_ports)
        sender.settimeout(seconds)
        sender.bind(("", own_port))
        sender.connect((address, port))
        sender.send(b"?")
        return _parsed(sender.recv(4096), own_port)


def _parsed(body: bytes, own_port: int) -> Answer:
    try:
        answer = json.loads(body)
    except ValueError as error:  # who was asked has ended meanwhile
        raise ConnectionError(f"half an answer: {body!r}") from error
    return Answer(pod=answer["pod"], client=answer["client"].rpartition(":")[0].strip("[]"), own_port=own_port)


def tries(source: Namespace, address: str, port: int, count: int, **options) -> list[str]:
    """Return who answered each of so many requests."""
    return [ask(source, address, port, **options).pod for _ in range(count)]


def is_strict_turn(answers: list[str], endpoints: set[str]) -> bool:
    size = len(endpoints)
    return set(answers[:size]) == endpoints and all(each == answers[i % size] for i, each in enumerate(answers))


def await_endpoints(source, address, endpoints, *, udp: bool = False):
    """Wait until exactly these answer, in strict turn."""

    def settled():
        try:
            return is_strict_turn(tries(source, address, 80, 2 * len(endpoints), udp=udp, seconds=2), endpoints)
        except OSError:
            return False

    eventually(settled)


def can_connect(source: Namespace, address: str, port: int) -> bool:
    try:
        ask(source, address, port, seconds=2)
    except OSError:
        return False
    return True


def is_refused(source: Namespace, address: str, port: int, *, udp: bool = False) -> bool:
    try:
        ask(source, address, port, udp=udp, seconds=2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


# --- objects


def echo_pod(name: str, namespace: str, *, node: str = "", app: str = "echo", **spec) -> dict:
    container = {
        "name": "echo",
        "image": "podwire/echo",
        "ports": [{"name": "echo", "containerPort": ECHO_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "echo"}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}
        | ({"nodeName": node} if node else {})
        | spec,
    }


def command_pod(name, namespace, *command, policy="Never", node="node1", image="anything", **spec) -> dict:
    container = {"name": "main", "image": image, "command": list(command)}
    return echo_pod(name, namespace, node=node, containers=[container], restartPolicy=policy, **spec)


def service(name: str, namespace: str, *, app: str = "echo", **spec) -> dict:
    ports = [
        {"name": "tcp", "port": 80, "targetPort": ECHO_PORT},
        {"name": "udp", "port": 80, "targetPort": ECHO_PORT, "protocol": "UDP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": ports} | spec,
    }
