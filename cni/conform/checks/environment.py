"""§2 Parameters: the CNI_* variables. Refused calls must leave the node and the pod as they were."""

from collections.abc import Iterator

from cni.conform import judge
from cni.conform.check import Check
from cni.conform.verdict import Outcome, outcome
from cni.conform.world import World

PARAMETERS = "§2 Parameters"
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
_SINCE = {"CHECK": "0.4.0"}
_BAD_IDS = {"slash": "pod/1", "space": "pod 1", "leading-dash": "-pod", "dots": "../pod", "semicolon": "pod;1"}
_BAD_NAMES = {
    "too-long": "sixteen-letters0",
    "dot": ".",
    "dot-dot": "..",
    "slash": "eth/0",
    "colon": "eth0:1",
    "space": "eth 0",
}


def checks() -> Iterator[Check]:
    for command, names in _REQUIRED.items():
        yield from (_missing(command, (name,)) for name in names)
        yield _missing(command, names)
    yield from (_bad("CNI_CONTAINERID", label, value) for label, value in _BAD_IDS.items())
    yield from (_bad("CNI_IFNAME", label, value) for label, value in _BAD_NAMES.items())
    yield _accepted("CNI_CONTAINERID", "container_id", "a_b.c-D" + "9" * 57)
    yield _accepted("CNI_IFNAME", "ifname", "fifteen-letter0")
    yield Check(
        id="env.command.unknown",
        clause=PARAMETERS,
        done="CNI_COMMAND=FROBNICATE",
        expected="refused with code 4",
        run=lambda world: _refused(world, "FROBNICATE", {}, ()),
    )
    yield Check(
        id="env.netns.absent",
        clause="§2 ADD",
        done="ADD with a CNI_NETNS that does not exist",
        expected="refused; node unchanged",
        run=_absent_netns,
    )
    yield from (_own_netns(command) for command in ("ADD", "DEL"))


def _missing(command: str, names: tuple[str, ...]) -> Check:
    label = names[0].removeprefix("CNI_").lower() if len(names) == 1 else "all"
    return Check(
        id=f"env.missing.{command.lower()}.{label}",
        clause=PARAMETERS,
        done=f"{command} without {', '.join(names)}",
        expected=f"refused with code 4, {'naming it' if len(names) == 1 else 'naming all of them at once'}",
        run=lambda world: _refused(world, command, dict.fromkeys(names), names),
        since=_SINCE.get(command, "0.1.0"),
    )


def _bad(variable: str, label: str, value: str) -> Check:
    return Check(
        id=f"env.{variable.removeprefix('CNI_').lower()}.{label}",
        clause=PARAMETERS,
        done=f"ADD with {variable}={value!r}",
        expected="refused with code 4; node and pod unchanged",
        run=lambda world: _refused(world, "ADD", {variable: value}, ()),
    )


def _refused(world: World, command: str, environ: dict[str, str | None], names: tuple[str, ...]) -> Outcome:
    pod = world.pod()
    node, inside = world.node.snapshot(), pod.snapshot()
    answer = world.call(command, pod, environ=environ)
    problems = judge.refusal(answer, judge.INVALID_ENVIRONMENT, names=names)
    problems += judge.unchanged(node, world.node.snapshot(), "the node")
    problems += judge.unchanged(inside, pod.snapshot(), "the pod")
    return outcome(answer, problems)


def _accepted(variable: str, field: str, value: str) -> Check:
    def run(world: World) -> Outcome:
        pod = world.pod()
        answer = world.call("ADD", pod, **{field: value})
        gone = world.call("DEL", pod, **{field: value})
        return outcome(f"ADD {answer}; DEL {gone}", judge.success(answer) + judge.success(gone))

    return Check(
        id=f"env.{variable.removeprefix('CNI_').lower()}.accepted",
        clause=PARAMETERS,
        done=f"ADD and DEL with {variable}={value}",
        expected="accepted",
        run=run,
    )


def _absent_netns(world: World) -> Outcome:
    before = world.node.ports()
    answer = world.call("ADD", container_id="conform-absent", netns=f"/run/netns/{world.state.name}-absent")
    left = [f"the node got {name}" for name in sorted(world.node.ports() - before)]
    return outcome(answer, judge.refusal(answer) + left)


def _own_netns(command: str) -> Check:
    def run(world: World) -> Outcome:
        before = world.node.snapshot()
        answer = world.call(command, container_id="conform-own", netns=world.node.path)
        changed = judge.unchanged(before, world.node.snapshot(), "the node")
        return outcome(answer, judge.refusal(answer, (8,)) + changed)

    return Check(
        id=f"env.netns.own.{command.lower()}",
        clause="practice: libcni's ErrInvalidNetNS",
        done=f"{command} with the path of the plugin's own namespace in CNI_NETNS",
        expected="refused with code 8 before any change to the node",
        run=run,
    )
