"""What must hold on a lab that nobody harms: each check returns what it saw, or raises Failed."""

import json
import time
import urllib.request

from scenario import cluster
from scenario.cluster import NAMESPACE, Pod, Stage
from scenario.machines import Failed, Machine, eventually

_ROUNDS = 3
# Leaves of each answer of the echo program the pod's name.
_NAMES = """sed -E 's/.*"pod": *"([^"]*)".*/\\1/'"""


def nodes_are_ready(stage: Stage) -> str:
    for name in stage.machines:
        eventually(lambda name=name: cluster.is_ready(stage, name), f"node {name} is Ready", within=180)
    return ", ".join(f"{name} {stage.addresses[name]}" for name in stage.machines)


def pods_run(stage: Stage) -> str:
    stage.kubectl("apply -f -", cluster.manifests(stage))
    pods = stage.await_pods(600)
    return ", ".join(f"{pod.name} {pod.address}" for pod in sorted(pods.values(), key=lambda pod: pod.name))


def everybody_reaches_everybody(stage: Stage) -> str:
    pods = stage.pods()
    targets = [*(pod.address for pod in pods.values()), *stage.addresses.values()]
    script = "\n".join(f"ping -c 1 -W 5 -q {target} >/dev/null 2>&1 || echo {target}" for target in targets)
    lost = []
    for pod in pods.values():
        lost += [f"{pod.name} → {target}" for target in stage.nodes[pod.node].in_pod(pod.address, script).split()]
    for machine in stage.machines.values():
        lost += [f"{machine.name} → {target}" for target in machine.run(script).split()]
    if lost:
        raise Failed(f"no answer: {', '.join(lost)}")
    sources = len(pods) + len(stage.machines)
    return f"{sources} × {len(targets)} pings answered"


def services_take_turns(stage: Stage) -> str:
    pods, address = stage.pods(), stage.service("turn")["clusterIP"]
    for machine in stage.machines.values():
        _await_all(machine, address, set(pods))
        _require_turns(machine.name, _ask(machine, address, _ROUNDS * len(pods)), set(pods))
    for pod in pods.values():
        answers = stage.nodes[pod.node].in_pod(pod.address, _asking(address, _ROUNDS * len(pods))).split()
        _require_turns(pod.name, answers, set(pods))
    return f"from {len(stage.machines)} machines and {len(pods)} pods, {_ROUNDS} times round {len(pods)} endpoints"


def affinity_holds(stage: Stage) -> str:
    address = stage.service("sticky")["clusterIP"]
    kept = {}
    for machine in stage.machines.values():
        answers = _ask(machine, address, 8)
        if len(set(answers)) != 1 or answers[0] not in stage.pods():
            raise Failed(f"{machine.name} was answered by {', '.join(answers)}")
        kept[machine.name] = answers[0]
    return ", ".join(f"{client} by {server}" for client, server in kept.items())


def node_ports_answer(stage: Stage) -> str:
    (port,) = stage.service("turn")["ports"]
    names = set(stage.pods())
    for machine, address in stage.addresses.items():
        url = f"http://{address}:{port['nodePort']}/"
        try:
            answers = {json.load(urllib.request.urlopen(url, timeout=20))["pod"] for _ in range(2 * len(names))}
        except (ValueError, OSError) as error:
            raise Failed(f"{url} ({machine}): {error}") from error
        if answers != names:
            raise Failed(f"{url} ({machine}) was answered by {', '.join(sorted(answers))}")
    return f"port {port['nodePort']} of {len(stage.addresses)} machines, from this host, by every pod"


def a_deleted_pod_leaves(stage: Stage) -> str:
    """Delete a pod with kubectl while a machine keeps asking; then make it again."""
    victim = stage.pods()[f"web-{max(stage.nodes)}-1"]
    asker = stage.nodes[min(stage.nodes)]
    address = stage.service("turn")["clusterIP"]
    asker.run(_start_asking(address))
    try:
        stage.kubectl(f"delete pod -n {NAMESPACE} {victim.name} --wait=false")
        eventually(lambda: victim.name not in stage.endpoints(), f"{victim.name} left the endpoints", within=60)
        others = set(stage.pods()) - {victim.name}
        _await_only(asker, address, others)
    finally:
        answers = asker.run(_STOP_ASKING).split()
    stage.kubectl("apply -f -", cluster.manifests(stage))
    stage.await_pods(300)
    if failures := answers.count("failed"):
        raise Failed(f"{failures} of {len(answers)} requests failed meanwhile")
    return f"{victim.name}; {len(answers)} requests meanwhile, none failed"


# The asker writes to a file and looks for another that ends it: it survives the ssh connection that started it.
_STOP_ASKING = f"touch /run/smoke.stop; sleep 2; {_NAMES} /run/smoke.answers; rm -f /run/smoke.*"


def _start_asking(address: str) -> str:
    loop = f"while [ ! -e /run/smoke.stop ]; do curl -s -m 10 http://{address}/ || echo failed; done"
    return f"rm -f /run/smoke.*; nohup sh -c '{loop}' >/run/smoke.answers 2>/dev/null </dev/null &"


def _asking(address: str, count: int) -> str:
    return f"for _ in $(seq {count}); do curl -s -m 10 http://{address}/ || echo failed; done | {_NAMES}"


def _ask(machine: Machine, address: str, count: int) -> list[str]:
    return machine.run(_asking(address, count)).split()


def _await_all(machine: Machine, address: str, names: set[str]) -> None:
    """The proxies learn of endpoints one after the other."""
    eventually(lambda: set(_ask(machine, address, len(names))) == names, f"all pods answer {machine.name}", within=120)


def _await_only(machine: Machine, address: str, names: set[str]) -> None:
    eventually(
        lambda: set(_ask(machine, address, 2 * len(names))) == names,
        f"only {', '.join(sorted(names))} answer {machine.name}",
        within=120,
    )


def _require_turns(client: str, answers: list[str], names: set[str]) -> None:
    size = len(names)
    turns = [answers[start : start + size] for start in range(0, len(answers), size)]
    if any(set(turn) != names or turn != turns[0] for turn in turns):
        raise Failed(f"{client} was not answered in turn: {' '.join(answers)}")


def everything_answers(stage: Stage, pods: dict[str, Pod]) -> None:
    """Every pod answers the Service on every machine."""
    address = stage.service("turn")["clusterIP"]
    for machine in stage.machines.values():
        _await_all(machine, address, set(pods))


def only_these_answer(stage: Stage, machines: list[Machine], names: set[str]) -> float:
    """Await it on these machines and return how long that took."""
    began, address = time.monotonic(), stage.service("turn")["clusterIP"]
    for machine in machines:
        _await_only(machine, address, names)
    return time.monotonic() - began
