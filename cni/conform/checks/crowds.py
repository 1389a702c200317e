"""Many at once, and too many: §3 says calls for different containers may come in parallel; pools are finite."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from cni.conform import confs, judge, shapes
from cni.conform.answer import Answer
from cni.conform.check import Check, require
from cni.conform.checks.removal import added
from cni.conform.place import Place
from cni.conform.verdict import Outcome, outcome
from cni.conform.world import IFNAME, World

AT_ONCE = 32
MANY = 64
_PARALLEL = "§3 Lifecycle & Ordering"


def checks() -> Iterator[Check]:
    yield Check(
        id="crowd.add",
        clause=_PARALLEL,
        done=f"{AT_ONCE} ADDs at once on a fresh node",
        expected="all succeed, each with an address of its own that its interface really has",
        run=_adds,
    )
    yield Check(
        id="crowd.del",
        clause=_PARALLEL,
        done=f"{AT_ONCE} DELs at once, then {AT_ONCE} ADDs, pool of {AT_ONCE}",
        expected="all succeed; no link left over by the DELs",
        run=_deletes,
    )
    yield Check(
        id="crowd.same",
        clause="practice: a runtime that retries too early",
        done="the same ADD 4 times at once, then DEL, then ADD of another pod, pool of 1",
        expected="at most one ADD succeeds; DEL and the last ADD do",
        run=_same,
    )
    yield Check(
        id="pool.unique",
        clause="§2 ADD",
        done=f"{MANY} ADDs, 8 at a time",
        expected=f"{MANY} different addresses",
        run=_unique,
    )
    yield Check(
        id="pool.exhausted",
        clause="practice: a failed ADD holds nothing back",
        done="3 ADDs with a pool of 2",
        expected="the third is refused; its pod and the node unchanged",
        run=_exhausted,
    )
    yield Check(
        id="pool.recovered",
        clause="§2 DEL",
        done="2 ADDs with a pool of 2, DEL of the first, another ADD",
        expected="it gets the address that came free",
        run=_recovered,
    )


def _together(call: Callable[[Place], Answer], pods: Sequence[Place], *, at_once: int = AT_ONCE) -> list[Answer]:
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(call, pods))


def _failures(verb: str, answers: Sequence[Answer]) -> list[str]:
    refused = [answer for answer in answers if not answer.is_success]
    return [f"{len(refused)} of {len(answers)} {verb}s failed, for example: {refused[0]}"] if refused else []


def _adds(world: World) -> Outcome:
    confs.pool(world.conf())
    pods = [world.pod() for _ in range(AT_ONCE)]
    answers = _together(lambda pod: world.call("ADD", pod), pods)
    problems = _failures("ADD", answers)
    promised = [shapes.addresses(answer.body) for answer in answers]
    problems += judge.distinct([address for each in promised for address in each])
    for pod, addresses, answer in zip(pods, promised, answers, strict=True):
        if answer.is_success and pod.addresses(IFNAME) != set(addresses):
            problems.append(f"{IFNAME} of {pod.name} has not what its result says")
    return outcome(f"{len(answers)} pods added", problems)


def _deletes(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), AT_ONCE)
    pods = [world.pod() for _ in range(AT_ONCE)]
    before = world.node.ports()
    require("ADD", _failures("ADD", _together(lambda pod: world.call("ADD", pod, conf=conf), pods)))
    problems = _failures("DEL", _together(lambda pod: world.call("DEL", pod, conf=conf), pods))
    left = len(world.node.ports() - before)
    problems += [f"{left} links left on the node"] if left else []
    problems += _failures("later ADD", _together(lambda pod: world.call("ADD", pod, conf=conf), pods))
    return outcome(f"{AT_ONCE} pods deleted, and added again", problems)


def _same(world: World) -> Outcome:
    conf, pod = confs.with_addresses(world.conf(), 1), world.pod()
    answers = _together(lambda each: world.call("ADD", each, conf=conf), [pod] * 4)
    served = sum(answer.is_success for answer in answers)
    gone = world.call("DEL", pod, conf=conf)
    again = world.call("ADD", world.pod(), conf=conf)
    problems = [] if served <= 1 else [f"{served} ADDs of one interface succeeded"]
    problems += [f"DEL: {line}" for line in judge.success(gone)] + [f"ADD: {line}" for line in judge.success(again)]
    return outcome(f"{served} of 4 served", problems)


def _unique(world: World) -> Outcome:
    confs.pool(world.conf())
    pods = [world.pod() for _ in range(MANY)]
    answers = _together(lambda pod: world.call("ADD", pod), pods, at_once=8)
    given = [address for answer in answers for address in shapes.addresses(answer.body)]
    return outcome(f"{len(set(given))} different addresses", _failures("ADD", answers) + judge.distinct(given))


def _exhausted(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    for _ in range(2):
        added(world, world.pod(), conf)
    third = world.pod()
    node, inside = world.node.snapshot(), third.snapshot()
    answer = world.call("ADD", third, conf=conf)
    problems = judge.refusal(answer) + judge.unchanged(inside, third.snapshot(), "the pod")
    return outcome(answer, problems + judge.unchanged(node, world.node.snapshot(), "the node"))


def _recovered(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 2)
    pods = [world.pod() for _ in range(3)]
    first = added(world, pods[0], conf)
    added(world, pods[1], conf)
    gone = world.call("DEL", pods[0], conf=conf)
    answer = world.call("ADD", pods[2], conf=conf)
    problems = judge.success(gone) + judge.success(answer)
    if not problems and shapes.addresses(answer.body) != shapes.addresses(first.body):
        problems.append("not the address that came free")
    return outcome(", ".join(map(str, shapes.addresses(answer.body))), problems)
