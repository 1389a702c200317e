"""§2 CHECK: silent while the attachment is as the result says, an error when something of it is missing."""

from collections.abc import Callable, Iterator
from ipaddress import ip_interface

from cni.conform import confs, judge, shapes
from cni.conform.check import Check, require
from cni.conform.checks.removal import added
from cni.conform.place import Place
from cni.conform.verdict import NotApplicable, Outcome, outcome
from cni.conform.world import IFNAME, World
from cni.spec import Code
from dataplane.netlink.objects import InterfaceAddress

_CLAUSE = "§2 CHECK"
_SINCE = "0.4.0"
_TOO_OLD = "0.3.1"
_LATER = ip_interface("192.0.2.77/32")


def checks() -> Iterator[Check]:
    yield _check("fresh", "CHECK right after ADD", "success without output", _after(_nothing, judge.silence))
    yield _check("fresh.route", "the same, with a route that names no gateway", "success without output", _gateway_less)
    yield _check(
        "later-changes",
        "another address is added to the interface, then CHECK",
        "success: later plugins of a chain may add",
        _after(_add_address, judge.silence),
    )
    yield _check("address", "the address is removed, then CHECK", "an error", _after(_remove_address, judge.refusal))
    yield _check("route", "a route is removed, then CHECK", "an error", _after(_remove_route, judge.refusal))
    yield _check("interface", "the interface is removed, then CHECK", "an error", _after(_remove_link, judge.refusal))
    yield _check("unknown", "CHECK of a container never added", "an error", _unknown)
    yield _check("no-prev-result", "CHECK without prevResult", "an error", _without_previous)
    yield _check("version", f"CHECK with cniVersion {_TOO_OLD}", "refused with code 1", _too_old)


def _check(label: str, done: str, expected: str, run: Callable[[World], Outcome]) -> Check:
    return Check(id=f"check.{label}", clause=_CLAUSE, done=done, expected=expected, run=run, since=_SINCE)


Change = Callable[[Place, dict[str, object]], None]


def _after(change: Change, judged: Callable[..., list[str]]) -> Callable[[World], Outcome]:
    def run(world: World) -> Outcome:
        pod, conf = world.pod(), world.conf()
        result = added(world, pod, conf).body
        conf["prevResult"] = result
        if change is not _nothing:
            # A CHECK that always fails would find every removal.
            require("CHECK right after ADD", judge.silence(world.call("CHECK", pod, conf=conf)))
        change(pod, result)
        answer = world.call("CHECK", pod, conf=conf)
        return outcome(answer, judged(answer))

    return run


def _nothing(_: Place, __: dict[str, object]) -> None:
    pass


def _add_address(pod: Place, _: dict[str, object]) -> None:
    pod.netlink.add_address(IFNAME, InterfaceAddress(interface=_LATER))


def _remove_address(pod: Place, result: dict[str, object]) -> None:
    for interface in shapes.addresses(result):
        pod.netlink.delete_address(IFNAME, interface)


def _remove_route(pod: Place, result: dict[str, object]) -> None:
    promised = {route.destination for route in shapes.routes(result)}
    held = [route for route in pod.netlink.routes() if str(route.destination) in promised]
    if not held:
        raise NotApplicable("the result has no routes")
    pod.netlink.delete_route(held[0])


def _remove_link(pod: Place, _: dict[str, object]) -> None:
    pod.netlink.delete_link(IFNAME)


def _gateway_less(world: World) -> Outcome:
    pod, conf = world.pod(), confs.with_routes(world.conf(), {"dst": confs.ROUTE})
    conf["prevResult"] = added(world, pod, conf).body
    answer = world.call("CHECK", pod, conf=conf)
    return outcome(answer, judge.silence(answer))


def _unknown(world: World) -> Outcome:
    pod, conf = world.pod(), world.conf()
    result = added(world, pod, conf).body
    stranger = world.pod()
    answer = world.call("CHECK", stranger, conf={**conf, "prevResult": result})
    return outcome(answer, judge.refusal(answer))


def _without_previous(world: World) -> Outcome:
    pod = world.pod()
    added(world, pod, world.conf())
    answer = world.call("CHECK", pod)
    return outcome(answer, judge.refusal(answer))


def _too_old(world: World) -> Outcome:
    if _TOO_OLD not in world.subject.versions:
        raise NotApplicable(f"{_TOO_OLD} is not advertised")
    pod, conf = world.pod(), world.conf(_TOO_OLD)
    result = added(world, pod, conf).body
    answer = world.call("CHECK", pod, conf={**conf, "prevResult": result})
    return outcome(answer, judge.refusal(answer, (Code.INCOMPATIBLE_VERSION,)))
