"""§2 DEL: everything of the attachment goes, nothing of anybody else's, and what is already gone is success.

Whether an address came back is seen from outside with a pool of one: the next pod can be added, or not.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cni.conform import confs, judge, place
from cni.conform.answer import Answer
from cni.conform.check import Check, require
from cni.conform.confs import Conf
from cni.conform.verdict import Outcome, outcome
from cni.conform.world import Call, World, kill
from cni.spec import Command

_CLAUSE = "§2 DEL"
_KILLS = 8


def checks() -> Iterator[Check]:
    yield _check("removes", "DEL after ADD", "success without output; node and pod as before the ADD", _removes)
    yield _check("frees", "ADD, DEL, ADD of another pod, pool of 1", "the other gets the address", _frees(None))
    yield _check("prev-result", "the same, the DEL with prevResult", "the other gets the address", _frees("prevResult"))
    yield _check("twice", "DEL twice", "both succeed", _twice)
    yield _check("unknown", "DEL of a container never added", "success; node and pod unchanged", _unknown)
    yield _check(
        "netns-empty", "DEL without CNI_NETNS, then ADD of another, pool of 1", "both succeed", _frees("no CNI_NETNS")
    )
    yield _check(
        "netns-gone",
        "the namespace vanishes, then DEL with its path, then ADD of another, pool of 1",
        "both succeed; no link left on the node",
        _vanished,
    )
    yield _check("other-pod", "DEL of one of two pods", "the other pod is unchanged", _other)
    yield _check("one-interface", "DEL of eth1 of a pod with eth0 and eth1", "eth0 is unchanged", _one_interface)
    yield Check(
        id="del.foreign-netns",
        clause="practice: a stale /proc/PID/ns/net (cri-o#2849)",
        done="a pod's namespace dies, its path comes to lead to another pod's namespace, DEL with that path",
        expected="success; the other pod unchanged",
        run=_foreign,
    )
    yield Check(
        id="del.after-killed-add",
        clause="practice: a runtime's time-out kills the plugin",
        done=f"{_KILLS} ADDs killed, each a bit later and followed by DEL; then an ADD, pool of 1",
        expected="every DEL and the ADD succeed; no link left over",
        run=_killed,
    )


def _check(label: str, done: str, expected: str, run: Callable[[World], Outcome]) -> Check:
    return Check(id=f"del.{label}", clause=_CLAUSE, done=done, expected=expected, run=run)


def added(world: World, pod: place.Place, conf: Conf) -> Answer:
    answer = world.call(Command.ADD, pod, conf=conf)
    require("ADD", judge.success(answer))
    return answer


def _removes(world: World) -> Outcome:
    # The first pod makes the network's bridge, which may stay.
    added(world, world.pod(), world.conf())
    pod = world.pod()
    node, inside = world.node.snapshot(), pod.snapshot()
    added(world, pod, world.conf())
    answer = world.call("DEL", pod)
    problems = judge.silence(answer) + judge.unchanged(inside, pod.snapshot(), "the pod")
    return outcome(answer, problems + judge.unchanged(node, world.node.snapshot(), "the node"))


def _frees(variation: str | None) -> Callable[[World], Outcome]:
    def run(world: World) -> Outcome:
        conf, pod = confs.with_addresses(world.conf(), 1), world.pod()
        result = added(world, pod, conf).body
        if variation == "prevResult":
            gone = world.call("DEL", pod, conf={**conf, "prevResult": result})
        else:
            gone = world.call("DEL", pod, conf=conf, environ={"CNI_NETNS": None} if variation else {})
        return _reusable(world, conf, gone)

    return run


def _reusable(world: World, conf: Conf, gone: Answer) -> Outcome:
    again = world.call("ADD", world.pod(), conf=conf)
    problems = judge.success(gone) + [f"then ADD: {problem}" for problem in judge.success(again)]
    return outcome(f"{gone}; then ADD: {again}", problems)


def _twice(world: World) -> Outcome:
    pod = world.pod()
    added(world, pod, world.conf())
    answers = [world.call("DEL", pod) for _ in range(2)]
    return outcome(
        " and ".join(map(str, answers)), [problem for answer in answers for problem in judge.success(answer)]
    )


def _unknown(world: World) -> Outcome:
    pod = world.pod()
    node, inside = world.node.ports(), pod.snapshot()
    answer = world.call("DEL", pod)
    problems = judge.success(answer) + judge.unchanged(inside, pod.snapshot(), "the pod")
    return outcome(answer, problems + [f"the node got {name}" for name in sorted(world.node.ports() - node)])


def _vanished(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    before = world.node.ports()
    with place.place("gone") as gone:
        added(world, gone, conf)
    answer = world.call("DEL", gone, conf=conf)
    left = world.node.kept(before)
    seen = _reusable(world, conf, answer)
    return outcome(seen.seen, [*seen.problems, *left])


def _other(world: World) -> Outcome:
    first, second = world.pod(), world.pod()
    added(world, first, world.conf())
    added(world, second, world.conf())
    before = second.snapshot()
    answer = world.call("DEL", first)
    return outcome(answer, judge.success(answer) + judge.unchanged(before, second.snapshot(), "the other pod"))


def _one_interface(world: World) -> Outcome:
    confs.pool(world.conf())
    pod = world.pod()
    added(world, pod, world.conf())
    before = pod.snapshot()
    require("ADD of eth1", judge.success(world.call("ADD", pod, ifname="eth1")))
    answer = world.call("DEL", pod, ifname="eth1")
    return outcome(answer, judge.success(answer) + judge.unchanged(before, pod.snapshot(), "the pod"))


def _foreign(world: World) -> Outcome:
    path = world.state / "netns"
    with place.place("gone") as gone:
        _lead(path, gone.path)
        require("ADD", judge.success(world.call("ADD", gone, netns=str(path))))
    other = world.pod()
    added(world, other, world.conf())
    before = other.snapshot()
    _lead(path, other.path)
    answer = world.call("DEL", gone, netns=str(path))
    return outcome(answer, judge.success(answer) + judge.unchanged(before, other.snapshot(), "the other pod"))


def _lead(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _killed(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    before, problems = world.node.ports(), list[str]()
    whole = _seconds_of_add(world)
    for moment in range(_KILLS):
        pod = world.pod()
        _add_killed(world, pod, conf, after=whole * (moment + 0.5) / _KILLS)
        gone = world.call("DEL", pod, conf=conf)
        problems += [f"DEL: {problem}" for problem in judge.success(gone)]
        problems += [f"the pod kept {name}" for name in sorted(pod.ports())]
    problems += world.node.kept(before)
    again = world.call("ADD", world.pod(), conf=conf)
    return outcome(f"then ADD: {again}", problems + [f"then ADD: {problem}" for problem in judge.success(again)])


def _seconds_of_add(world: World) -> float:
    pod, conf = world.pod(), world.conf(network="timed")
    start = time.monotonic()
    added(world, pod, conf)
    seconds = time.monotonic() - start
    world.call("DEL", pod, conf=conf)
    return seconds


def _add_killed(world: World, pod: place.Place, conf: Conf, *, after: float) -> None:
    call = Call(command="ADD", conf=conf, container_id=pod.name, netns=pod.path)
    process = world.start(call)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=after)
    finally:
        kill(process)
