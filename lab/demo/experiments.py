"""The demo's experiments: packets sent from inside pods, and what came of them."""

import subprocess
import threading
import time
from dataclasses import dataclass

from lab import kubectl
from lab.demo import traffic
from lab.demo.findings import Pings, Pinned, Turns, Withdrawal
from lab.demo.scene import NAMESPACE, PORT, Member, Scene

_REQUESTS = 12
_QUIET = 0.7  # seconds without an answer of a deleted pod after which it counts as gone
_GIVE_UP = 5.0


def take_turns(scene: Scene, *, udp: bool = False) -> tuple[Turns, ...]:
    """Ask the plain Service from a pod on each node."""
    count = max(_REQUESTS, 2 * len(scene.web))
    return tuple(
        Turns(
            client=client.name,
            node=client.node,
            protocol="UDP" if udp else "TCP",
            answers=tuple(traffic.ask(client.netns, scene.service, PORT, udp=udp) for _ in range(count)),
            endpoints=scene.endpoints,
        )
        for client in scene.clients
    )


def stay(scene: Scene) -> tuple[Pinned, ...]:
    """Ask the sticky Service from the same pods."""
    return tuple(
        Pinned(
            client=client.name,
            node=client.node,
            answers=tuple(traffic.ask(client.netns, scene.sticky, PORT) for _ in range(_REQUESTS)),
        )
        for client in scene.clients
    )


def ping_all(scene: Scene) -> tuple[Pings, ...]:
    """Ping every pod and every node from every pod."""
    members = (*scene.web, *scene.clients)
    targets = [(member.name, member.address) for member in members]
    targets += [(node.name, node.address.ip) for node in scene.lab.nodes]
    return tuple(
        Pings(
            source=member.name,
            round_trips=tuple((name, traffic.ping(member.netns, address)) for name, address in targets),
        )
        for member in members
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    at: float
    pod: str  # empty for a failure


def withdraw(scene: Scene) -> Withdrawal:
    """Delete a pod with kubectl while a client on another node asks without pause."""
    victim, client = scene.web[-1], scene.clients[0]
    began = time.monotonic()
    deletion = _Deletion(scene, victim, began)
    seen: list[_Seen] = []
    while not _is_over(seen, deletion, victim.name, time.monotonic() - began):
        answer = traffic.ask(client.netns, scene.service, PORT)
        seen.append(_Seen(at=time.monotonic() - began, pod=answer.pod))
    last = max((each.at for each in seen if each.pod == victim.name), default=0.0)
    return Withdrawal(
        pod=victim.name,
        returned=deletion.returned,
        last_answer=last,
        requests=len(seen),
        failed=sum(1 for each in seen if not each.pod),
        left=frozenset(each.pod for each in seen if each.at > last and each.pod),
        endpoints=scene.endpoints - {victim.name},
    )


class _Deletion:
    """kubectl at work; `returned` is set when it has ended, in seconds since the beginning."""

    def __init__(self, scene: Scene, victim: Member, began: float) -> None:
        self.returned = 0.0
        self._began = began
        self._argv = [kubectl.path(), "delete", "pod", victim.name, "--namespace", NAMESPACE, "--wait=false"]
        self._environment = kubectl.environment(scene.lab)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        subprocess.run(self._argv, env=self._environment, capture_output=True, check=False)
        self.returned = time.monotonic() - self._began


def _is_over(seen: list[_Seen], deletion: _Deletion, victim: str, now: float) -> bool:
    if not deletion.returned:
        return now > _GIVE_UP
    last = max((each.at for each in seen if each.pod == victim), default=0.0)
    return now - max(last, deletion.returned) > _QUIET or now > deletion.returned + _GIVE_UP
