"""§2 ADD: what a success must have done in the kernel, and what a failure must not leave there."""

from collections.abc import Iterator, Mapping
from typing import Any

from cni.conform import confs, judge, shapes
from cni.conform.check import Check, require
from cni.conform.place import Place
from cni.conform.verdict import NotApplicable, Outcome, outcome
from cni.conform.world import IFNAME, World
from cni.spec import parse_version

_CLAUSE = "§2 ADD"
_WITH_INTERFACES = "0.3.0"


def checks() -> Iterator[Check]:
    yield _check("interface", "the container has CNI_IFNAME, up", _interface)
    yield _check("address", "it carries exactly the result's addresses", _addresses)
    yield _check("routes", "the container has every route of the result", _routes, since=_WITH_INTERFACES)
    yield _check("mac", "the result's MAC is the interface's", _mac, since=_WITH_INTERFACES)
    yield _check(
        "sandbox", "the interface's sandbox is CNI_NETNS, and ips point at it", _sandbox, since=_WITH_INTERFACES
    )
    yield _check("stdout", "stdout is one JSON document and nothing else", _stdout)
    yield Check(
        id="add.second-interface",
        clause="§3 Lifecycle & Ordering",
        done="ADD of the same container with CNI_IFNAME=eth1",
        expected="a second interface with another address; the first as it was",
        run=_second_interface,
    )
    yield Check(
        id="add.existing-interface",
        clause=_CLAUSE,
        done="ADD where CNI_IFNAME exists already",
        expected="refused; node and pod unchanged",
        run=_existing,
    )
    yield Check(
        id="add.prev-result",
        clause="§2 ADD, prevResult",
        done="ADD with a prevResult that names another interface",
        expected="the result still has it",
        run=_chained,
        since=_WITH_INTERFACES,
    )
    yield Check(
        id="add.failed.interface",
        clause="practice: a failed ADD holds nothing back",
        done="3 ADDs refused because CNI_IFNAME exists, pool of 1; then an ADD of another pod",
        expected="the last gets the address; no link left over",
        run=_failed_by_interface,
    )
    yield Check(
        id="add.failed.route",
        clause="practice: a failed ADD holds nothing back",
        done="3 ADDs with a route through an unreachable gateway, pool of 1; then a sound ADD",
        expected="the last gets the address; no link left over",
        run=_failed_by_route,
    )


def _check(label: str, expected: str, judged: Any, *, since: str = "0.1.0") -> Check:
    def run(world: World) -> Outcome:
        pod = world.pod()
        answer = world.call("ADD", pod)
        require("ADD", judge.success(answer))
        seen: Outcome = judged(pod, answer)
        return seen

    return Check(id=f"add.{label}", clause=_CLAUSE, done="ADD", expected=expected, run=run, since=since)


def _interface(pod: Place, _: Any) -> Outcome:
    link = pod.netlink.link(IFNAME)
    if link is None:
        return outcome("", [f"no {IFNAME} in the pod"])
    return outcome(f"{IFNAME} is up", [] if link.up else [f"{IFNAME} is down"])


def _addresses(pod: Place, answer: Any) -> Outcome:
    promised, held = set(shapes.addresses(answer.body)), pod.addresses(IFNAME)
    problems = [f"{address} is promised but not on {IFNAME}" for address in promised - held]
    problems += [f"{address} is on {IFNAME} but not in the result" for address in held - promised]
    return outcome(", ".join(map(str, held)), problems or ([] if promised else ["no address in the result"]))


def _routes(pod: Place, answer: Any) -> Outcome:
    promised = shapes.routes(answer.body)
    if not promised:
        raise NotApplicable("the result has no routes")
    held = {(str(route.destination), route.gateway and str(route.gateway)) for route in pod.netlink.routes()}
    lost = [each for each in promised if (each.destination, each.gateway) not in held]
    problems = [f"no route to {each.destination} via {each.gateway}" for each in lost]
    return outcome(", ".join(f"{each.destination} via {each.gateway}" for each in promised), problems)


def _mac(pod: Place, answer: Any) -> Outcome:
    entry, link = shapes.inside(answer.body, IFNAME), pod.netlink.link(IFNAME)
    promised, held = (entry or {}).get("mac"), link.mac if link else None
    return outcome(held, [] if str(promised).lower() == held else [f"promised {promised}, {IFNAME} has {held}"])


def _sandbox(pod: Place, answer: Any) -> Outcome:
    entry = shapes.inside(answer.body, IFNAME)
    if entry is None:
        return outcome("", [f"no interface {IFNAME} with a sandbox in the result"])
    problems = [] if entry["sandbox"] == pod.path else [f"sandbox is {entry['sandbox']!r}"]
    interfaces: list[Mapping[str, Any]] = answer.body["interfaces"]
    for ip in answer.body.get("ips") or []:
        index = ip.get("interface")
        if index is not None and interfaces[index] != entry:
            problems.append(f"{ip['address']} points at {interfaces[index]['name']}")
    return outcome(f"{IFNAME} in {entry['sandbox']}", problems)


def _stdout(_: Place, answer: Any) -> Outcome:
    return outcome(answer, [] if answer.body else [f"not one JSON object: {answer.stdout[:80]!r}"])


def _second_interface(world: World) -> Outcome:
    confs.pool(world.conf())
    pod = world.pod()
    first = world.call("ADD", pod)
    require("ADD of eth0", judge.success(first))
    before = pod.snapshot()
    second = world.call("ADD", pod, ifname="eth1")
    problems = judge.success(second)
    problems += judge.distinct(shapes.addresses(first.body) + shapes.addresses(second.body))
    problems += [f"the pod lost {line}" for line in sorted(before - pod.snapshot())]
    return outcome(", ".join(map(str, shapes.addresses(second.body))), problems)


def _existing(world: World) -> Outcome:
    pod = world.pod()
    require("ADD", judge.success(world.call("ADD", pod)))
    node, inside = world.node.snapshot(), pod.snapshot()
    answer = world.call("ADD", pod)
    problems = judge.refusal(answer) + judge.unchanged(inside, pod.snapshot(), "the pod")
    return outcome(answer, problems + judge.unchanged(node, world.node.snapshot(), "the node"))


def _chained(world: World) -> Outcome:
    version = world.subject.version
    entry = {"name": "dummy0", "mac": "0a:00:00:00:00:01", "sandbox": ""}
    earlier: dict[str, Any] = {"cniVersion": version, "interfaces": [entry], "ips": [], "routes": []}
    if parse_version(version) < (1, 0, 0):
        earlier["dns"] = {}
    answer = world.call("ADD", world.pod(), conf={**world.conf(), "prevResult": earlier})
    names = [each.get("name") for each in answer.body.get("interfaces") or []]
    lost = [] if "dummy0" in names else [f"dummy0 is not among {', '.join(map(str, names))}"]
    return outcome(", ".join(map(str, names)), judge.success(answer) or lost)


def _failed_by_interface(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    stranger = world.pod()
    with_interface = world.conf(network="other") | {"bridge": "conform1"}
    require("an ADD of another network", judge.success(world.call("ADD", stranger, conf=with_interface)))
    node = world.node.ports()
    failed = [world.call("ADD", stranger, conf=conf) for _ in range(3)]
    return _recovers(world, conf, node, failed)


def _failed_by_route(world: World) -> Outcome:
    conf = confs.with_addresses(world.conf(), 1)
    broken = confs.with_routes(conf, {"dst": confs.ROUTE, "gw": confs.UNREACHABLE})
    node = world.node.ports()
    failed = []
    for _ in range(3):
        pod = world.pod()
        failed.append(world.call("ADD", pod, conf=broken))
        if kept := [f"the pod kept {name}" for name in sorted(pod.ports())]:
            return outcome(failed[-1], kept)
    return _recovers(world, conf, node, failed)


def _recovers(world: World, conf: confs.Conf, node: set[str], failed: list[Any]) -> Outcome:
    problems = [problem for answer in failed for problem in judge.refusal(answer)]
    problems += [f"the node kept {name}" for name in sorted(world.node.ports() - node)]
    answer = world.call("ADD", world.pod(), conf=conf)
    problems += [f"then a sound ADD: {problem}" for problem in judge.success(answer)]
    return outcome(f"refused: {failed[0]}; then a sound ADD: {answer}", problems)
