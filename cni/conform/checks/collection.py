"""§2 GC and STATUS, which came with 1.1.0.

What GC freed is seen from outside with a small pool: as many pods can be added as attachments were stale.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cni.conform import confs, judge, place
from cni.conform.answer import Answer
from cni.conform.check import Check
from cni.conform.checks.removal import added
from cni.conform.confs import Conf
from cni.conform.place import Place
from cni.conform.verdict import NotApplicable, Outcome, outcome
from cni.conform.world import IFNAME, World
from cni.spec import Code

_SINCE = "1.1.0"
_TOO_OLD = "1.0.0"
_ATTACHMENTS = "cni.dev/valid-attachments"
_NOT_AVAILABLE = (50, 51)  # §5 Error: cannot serve an ADD; 51: and existing containers suffer
_BARE: Mapping[str, str | None] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))


def checks() -> Iterator[Check]:
    yield _gc("all-valid", "GC, every attachment listed", "success without output; nothing changed", _all_valid)
    yield _gc("only-stale", "GC, one of two attachments listed", "only the other's address comes free", _only_stale)
    yield _gc("empty-list", "GC with an empty list", "both addresses come free", _empty_list)
    yield _gc("missing-list", "GC without the list", "nothing is removed: absent is not empty", _missing_list)
    yield _gc("twice", "GC with an empty list, twice", "both succeed without output", _twice)
    yield _gc("netns-gone", "a pod's namespace vanishes, GC with an empty list", "its address comes free", _vanished)
    yield _gc("one-interface", "GC lists eth0 of a pod with eth0 and eth1", "eth0 unchanged; eth1 free", _one_interface)
    yield _gc("other-network", "GC of one network with an empty list", "the other network's pod unchanged", _network)
    yield _gc("version", f"GC with cniVersion {_TOO_OLD}", "refused with code 1", _too_old("GC"))
    yield _status("ready", "STATUS with only CNI_COMMAND and CNI_PATH set", "success without output", _ready)
    yield _status("unchanged", "STATUS on a fresh node", "node unchanged", _untouched)
    yield _status("exhausted", "STATUS with every address of the pool given", "refused with code 50 or 51", _exhausted)
    yield _status("recovered", "the same after a DEL", "success without output", _recovered)
    yield _status("version", f"STATUS with cniVersion {_TOO_OLD}", "refused with code 1", _too_old("STATUS"))


def _gc(label: str, done: str, expected: str, run: Callable[[World], Outcome]) -> Check:
    return Check(id=f"gc.{label}", clause="§2 GC", done=done, expected=expected, run=run, since=_SINCE)


def _status(label: str, done: str, expected: str, run: Callable[[World], Outcome]) -> Check:
    return Check(id=f"status.{label}", clause="§2 STATUS", done=done, expected=expected, run=run, since=_SINCE)


def _collect(world: World, conf: Conf, valid: Sequence[tuple[Place, str]]) -> Answer:
    listed = [{"containerID": pod.name, "ifname": ifname} for pod, ifname in valid]
    return world.call("GC", conf={**conf, _ATTACHMENTS: listed}, environ=_BARE)


def _pods(world: World, conf: Conf, count: int) -> list[Place]:
    pods = [world.pod() for _ in range(count)]
    for pod in pods:
        added(world, pod, conf)
    return pods


def _free(world: World, conf: Conf, count: int) -> list[str]:
    """What is wrong unless exactly so many addresses are free; they are taken by it."""
    answers = [world.call("ADD", world.pod(), conf=conf) for _ in range(count + 1)]
    found = [f"of {count} addresses not all came free: {answer}" for answer in answers[:count] if not answer.is_success]
    return found + (["an address in use was given away"] if answers[count].is_success else [])


def _all_valid(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    pods = _pods(world, conf, 2)
    before = [world.node.snapshot(), *(pod.snapshot() for pod in pods)]
    answer = _collect(world, conf, [(pod, IFNAME) for pod in pods])
    after = [world.node.snapshot(), *(pod.snapshot() for pod in pods)]
    problems = [line for pair in zip(before, after, strict=True) for line in judge.unchanged(*pair, "a namespace")]
    return outcome(answer, judge.silence(answer) + problems + _free(world, conf, 0))


def _only_stale(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    valid, _stale = _pods(world, conf, 2)
    before = valid.snapshot()
    answer = _collect(world, conf, [(valid, IFNAME)])
    problems = judge.silence(answer) + judge.unchanged(before, valid.snapshot(), "the valid pod")
    return outcome(answer, problems + _free(world, conf, 1))


def _empty_list(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    _pods(world, conf, 2)
    answer = _collect(world, conf, [])
    return outcome(answer, judge.silence(answer) + _free(world, conf, 2))


def _missing_list(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    [pod] = _pods(world, conf, 1)
    before = pod.snapshot()
    answer = world.call("GC", conf=conf, environ=_BARE)
    return outcome(answer, judge.unchanged(before, pod.snapshot(), "the pod") + _free(world, conf, 0))


def _twice(world: World) -> Outcome:
    conf = world.conf()
    _pods(world, conf, 1)
    answers = [_collect(world, conf, []) for _ in range(2)]
    return outcome(" and ".join(map(str, answers)), [line for answer in answers for line in judge.silence(answer)])


def _vanished(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    before = world.node.ports()
    with place.place("gone") as gone:
        added(world, gone, conf)
    answer = _collect(world, conf, [])
    left = world.node.kept(before)
    return outcome(answer, judge.silence(answer) + left + _free(world, conf, 1))


def _one_interface(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    [pod] = _pods(world, conf, 1)
    before = pod.snapshot()
    second = world.call("ADD", pod, conf=conf, ifname="eth1")
    answer = _collect(world, conf, [(pod, IFNAME)])
    lost = [f"the pod lost {line}" for line in sorted(before - pod.snapshot())]
    return outcome(answer, judge.success(second) + judge.silence(answer) + lost + _free(world, conf, 1))


def _network(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    [pod] = _pods(world, conf, 1)
    before = pod.snapshot()
    answer = _collect(world, world.conf(network="other"), [])
    problems = judge.success(answer) + judge.unchanged(before, pod.snapshot(), "the other network's pod")
    return outcome(answer, problems + _free(world, conf, 0))


def _too_old(command: str) -> Callable[[World], Outcome]:
    def run(world: World) -> Outcome:
        if _TOO_OLD not in world.subject.versions:
            raise NotApplicable(f"{_TOO_OLD} is not advertised")
        conf: dict[str, Any] = {**world.conf(_TOO_OLD), _ATTACHMENTS: []}
        answer = world.call(command, conf=conf, environ=_BARE)
        return outcome(answer, judge.refusal(answer, (Code.INCOMPATIBLE_VERSION,)))

    return run


def _ready(world: World) -> Outcome:
    answer = world.call("STATUS", environ=_BARE)
    return outcome(answer, judge.silence(answer))


def _untouched(world: World) -> Outcome:
    before = world.node.snapshot()
    answer = world.call("STATUS", environ=_BARE)
    return outcome(answer, judge.success(answer) + judge.unchanged(before, world.node.snapshot(), "the node"))


def _exhausted(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    _pods(world, conf, 1)
    answer = world.call("STATUS", conf=conf, environ=_BARE)
    return outcome(answer, judge.refusal(answer, _NOT_AVAILABLE))


def _recovered(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    [pod] = _pods(world, conf, 1)
    gone = world.call("DEL", pod, conf=conf)
    answer = world.call("STATUS", conf=conf, environ=_BARE)
    return outcome(answer, judge.success(gone) + judge.silence(answer))
