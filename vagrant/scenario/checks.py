"""What must hold on a lab that nobody harms: each check returns what it saw, or raises Failed."""

import http.client
import json

from scenario import cluster
from scenario.cluster import NAMESPACE, Pod, Stage
from scenario.machines import PATIENCE, Failed, Machine, eventually

_ROUNDS = 3
# Leaves of each answer of the echo program the pod's name.
_NAMES = """sed -E 's/.*"pod": *"([^"]*)".*/\\1/'"""


def nodes_are_ready(stage: Stage) -> str:
    for name in stage.machines:
        eventually(lambda name=name: cluster.is_ready(stage, name), f"node {name} is Ready", within=60)
    return ", ".join(f"{name} {stage.addresses[name]}" for name in stage.machines)


def pods_run(stage: Stage) -> str:
    stage.clear()
    stage.kubectl("apply -f -", cluster.manifests(stage))
    pods = stage.await_pods(120)
    return ", ".join(f"{pod.name} {pod.address}" for pod in sorted(pods.values(), key=lambda pod: pod.name))


def everybody_reaches_everybody(stage: Stage) -> str:
    pods = stage.await_pods()
    targets = [*(pod.address for pod in pods.values()), *stage.addresses.values()]
    script = "\n".join(f"ping -c 1 -W 5 -q {target} >/dev/null 2>&1 || echo {target}" for target in targets)

    def all_answer() -> bool:
        lost = [f"{pod.name} → {each}" for pod in pods.values() for each in _in_pod(stage, pod, script)]
        lost += [
            f"{machine.name} → {each}" for machine in stage.machines.values() for each in machine.run(script).split()
        ]
        if lost:
            raise Failed(f"no answer: {', '.join(lost)}")
        return True

    eventually(all_answer, "all pings are answered", within=20)
    return f"{len(pods) + len(stage.machines)} × {len(targets)} pings answered"


def services_take_turns(stage: Stage) -> str:
    pods, address = stage.await_pods(), stage.service("turn")["clusterIP"]
    for machine in stage.machines.values():
        _await_all(machine, address, set(pods))
        _require_turns(machine.name, _ask(machine, address, _ROUNDS * len(pods)), set(pods))
    for pod in pods.values():
        _require_turns(pod.name, _in_pod(stage, pod, _asking(address, _ROUNDS * len(pods))), set(pods))
    return f"from {len(stage.machines)} machines and {len(pods)} pods, {_ROUNDS} times round {len(pods)} endpoints"


def affinity_holds(stage: Stage) -> str:
    pods, address = stage.await_pods(), stage.service("sticky")["clusterIP"]
    kept = {}
    for machine in stage.machines.values():
        eventually(
            lambda machine=machine: _ask(machine, address, 1)[0] in pods, f"{machine.name} is answered", within=30
        )
        answers = _ask(machine, address, 8)
        if len(set(answers)) != 1 or answers[0] not in pods:
            raise Failed(f"{machine.name} was answered by {', '.join(answers)}")
        kept[machine.name] = answers[0]
    return ", ".join(f"{client} by {server}" for client, server in kept.items())


def node_ports_answer(stage: Stage) -> str:
    (port,) = stage.service("turn")["ports"]
    names = set(stage.await_pods())
    for machine, address in stage.addresses.items():
        place = f"{address}:{port['nodePort']}"
        eventually(
            lambda place=place: _asked_from_here(place, len(names)) == names,
            f"every pod answers this host at {place} ({machine})",
            within=30,
        )
    return f"port {port['nodePort']} of {len(stage.addresses)} machines, from this host, by every pod"


def _asked_from_here(place: str, count: int) -> set[str]:
    """The names of those who answer so many requests of this host's."""
    names = set()
    for _ in range(count):
        connection = http.client.HTTPConnection(place, timeout=5 * PATIENCE)
        try:
            connection.request("GET", "/")
            names.add(json.load(connection.getresponse())["pod"])
        except (ValueError, KeyError, OSError, http.client.HTTPException) as error:
            raise Failed(str(error)) from error
        finally:
            connection.close()
    return names


def a_deleted_pod_leaves(stage: Stage) -> str:
    """Delete a pod with kubectl while a machine keeps asking; then make it again."""
    pods, address = stage.await_pods(), stage.service("turn")["clusterIP"]
    victim = f"web-{max(stage.nodes)}-1"
    asker = stage.nodes[min(stage.nodes)]
    asker.run(_start_asking(address))
    try:
        stage.kubectl(f"delete pod -n {NAMESPACE} {victim} --wait=false")
        eventually(lambda: victim not in stage.endpoints(), f"{victim} left the endpoints", within=30)
        _await_only(asker, address, set(pods) - {victim})
    finally:
        answers = asker.run(_STOP_ASKING).split()
    eventually(lambda: not stage.has_pod(victim), f"{victim} has gone", within=30)
    stage.kubectl("apply -f -", cluster.manifests(stage))
    stage.await_pods(120)
    if failures := answers.count("failed"):
        raise Failed(f"{failures} of {len(answers)} requests failed meanwhile")
    return f"{victim}; {len(answers)} requests meanwhile, none failed"


# The asker writes to a file and looks for another that ends it: it survives the ssh connection that started it.
_STOP_ASKING = f"touch /run/smoke.stop; sleep 2; {_NAMES} /run/smoke.answers; rm -f /run/smoke.*"


def _start_asking(address: str) -> str:
    loop = f"while [ ! -e /run/smoke.stop ]; do curl -s -m {5 * PATIENCE} http://{address}/ || echo failed; done"
    return f"rm -f /run/smoke.*; nohup sh -c '{loop}' >/run/smoke.answers 2>/dev/null </dev/null &"


def _asking(address: str, count: int) -> str:
    return f"for _ in $(seq {count}); do curl -s -m {5 * PATIENCE} http://{address}/ || echo failed; done | {_NAMES}"


def _in_pod(stage: Stage, pod: Pod, script: str) -> list[str]:
    return stage.nodes[pod.node].in_pod(pod.address, script).split()


def _ask(machine: Machine, address: str, count: int) -> list[str]:
    return machine.run(_asking(address, count)).split()


def _await_all(machine: Machine, address: str, names: set[str]) -> None:
    """The proxies learn of endpoints one after the other."""
    eventually(lambda: set(_ask(machine, address, len(names))) == names, f"all pods answer {machine.name}", within=30)


def _await_only(machine: Machine, address: str, names: set[str]) -> None:
    eventually(
        lambda: set(_ask(machine, address, 2 * len(names))) == names,
        f"only {', '.join(sorted(names))} answer {machine.name}",
        within=30,
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


def only_these_answer(stage: Stage, machines: list[Machine], names: set[str]) -> None:
    address = stage.service("turn")["clusterIP"]
    for machine in machines:
        _await_only(machine, address, names)
