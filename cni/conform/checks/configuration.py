"""§1 and §5: the configuration on stdin, its version, the VERSION command, and the shape of results."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from cni.conform import judge
from cni.conform.check import Check, require
from cni.conform.confs import Conf
from cni.conform.judge import KNOWN_VERSIONS
from cni.conform.verdict import NotApplicable, Outcome, outcome
from cni.conform.world import World
from cni.spec import Code

_NOT_JSON = {"garbage": b"{'name': conform", "empty": b"", "list": b"[]", "cut-off": b'{"cniVersion": "1.0.0", "na'}
_BAD_NAMES = {"slash": "net/1", "space": "net 1", "leading-dot": ".net"}
_UNKNOWN_VERSION = "9.9.9"


def checks() -> Iterator[Check]:
    for label, stdin in _NOT_JSON.items():
        yield _refusal(
            f"conf.not-json.{label}",
            f"ADD with {stdin.decode()!r} on stdin",
            Code.DECODING_FAILURE,
            lambda _, s=stdin: s,
        )
    yield _refusal("conf.name.absent", "ADD with a configuration without name", Code.INVALID_CONFIG, _without_name)
    for label, name in _BAD_NAMES.items():
        yield _refusal(
            f"conf.name.{label}",
            f"ADD with name={name!r}",
            Code.INVALID_CONFIG,
            lambda conf, n=name: {**conf, "name": n},
        )
    for command in ("ADD", "CHECK", "DEL"):
        yield _unknown_version(command)
    yield _refusal(
        "conf.version.number",
        "ADD with cniVersion=1, a number",
        Code.DECODING_FAILURE,
        lambda conf: {**conf, "cniVersion": 1},
    )
    yield Check(
        id="conf.version.absent",
        clause="§1 Configuration format",
        done="ADD with a configuration without cniVersion",
        expected="served as 0.1.0: a result with ip4",
        run=_without_version,
    )
    yield Check(
        id="error.version",
        clause="§5 Error",
        done="a refused ADD in each version advertised",
        expected="an error object whose cniVersion is the configuration's",
        run=_error_versions,
    )
    yield from _version_checks()
    yield from (_result(version) for version in KNOWN_VERSIONS)


def _without_name(conf: Conf) -> Conf:
    return {key: value for key, value in conf.items() if key != "name"}


def _refusal(check_id: str, done: str, code: Code, change: Callable[..., Any]) -> Check:
    def run(world: World) -> Outcome:
        pod = world.pod()
        before = pod.snapshot()
        stdin = change(world.conf())
        answer = world.call("ADD", pod, stdin=stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode())
        return outcome(answer, judge.refusal(answer, (code,)) + judge.unchanged(before, pod.snapshot(), "the pod"))

    return Check(
        id=check_id, clause="§5 Error", done=done, expected=f"refused with code {int(code)}; pod unchanged", run=run
    )


def _unknown_version(command: str) -> Check:
    def run(world: World) -> Outcome:
        pod = world.pod()
        answer = world.call(command, pod, conf=world.conf(_UNKNOWN_VERSION))
        return outcome(answer, judge.refusal(answer, (Code.INCOMPATIBLE_VERSION,)))

    return Check(
        id=f"conf.version.unknown.{command.lower()}",
        clause="§5 Error",
        done=f"{command} with cniVersion={_UNKNOWN_VERSION}",
        expected="refused with code 1",
        run=run,
    )


def _without_version(world: World) -> Outcome:
    if "0.1.0" not in world.subject.versions:
        raise NotApplicable("0.1.0 is not advertised")
    conf = world.conf()
    del conf["cniVersion"]
    answer = world.call("ADD", world.pod(), conf=conf)
    # The reference library answers such a configuration as 0.1.0 or 0.2.0: the two have one shape.
    version = str(answer.body.get("cniVersion"))
    return outcome(answer, judge.result(answer, version if version == "0.2.0" else "0.1.0"))


def _error_versions(world: World) -> Outcome:
    problems = []
    for version in world.subject.versions:
        answer = world.call("ADD", environ={"CNI_IFNAME": ".."}, conf=world.conf(version), netns=world.pod().path)
        if answer.body.get("cniVersion") != version:
            problems.append(f"{version} answered as {answer.body.get('cniVersion')!r}")
    return outcome("each in its own version", problems)


def _version_checks() -> Iterator[Check]:
    yield Check(
        id="version.report",
        clause="§2 VERSION",
        done="VERSION with only CNI_COMMAND set and nothing on stdin",
        expected="exit 0 and one object with cniVersion and supportedVersions",
        run=lambda world: _version_report(world, dict.fromkeys(_UNUSED), b""),
    )
    yield Check(
        id="version.runtime",
        clause="§2 VERSION",
        done='VERSION as libcni calls it: dummy variables, {"cniVersion": …} on stdin',
        expected="the same",
        run=lambda world: _version_report(
            world,
            {"CNI_CONTAINERID": "", "CNI_NETNS": "dummy", "CNI_IFNAME": "dummy", "CNI_PATH": "dummy"},
            b'{"cniVersion": "1.0.0"}',
        ),
    )
    yield Check(
        id="version.echo",
        clause="§2 VERSION",
        done="VERSION with each advertised version on stdin",
        expected="cniVersion is the one on stdin",
        run=_version_echo,
    )


_UNUSED = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")


def _version_report(world: World, environ: dict[str, str | None], stdin: bytes) -> Outcome:
    answer = world.call("VERSION", environ=environ, stdin=stdin)
    listed = ", ".join(judge.advertised(answer))
    return outcome(f"{answer}: {listed}", judge.version_report(answer))


def _version_echo(world: World) -> Outcome:
    problems = []
    for version in world.subject.versions:
        answer = world.call("VERSION", stdin=json.dumps({"cniVersion": version}).encode())
        if answer.body.get("cniVersion") != version:
            problems.append(f"{version} on stdin, {answer.body.get('cniVersion')!r} in the answer")
    return outcome("each echoed", problems)


def _result(version: str) -> Check:
    def run(world: World) -> Outcome:
        if version not in world.subject.versions:
            raise NotApplicable(f"{version} is not advertised")
        pod, conf = world.pod(), world.conf(version)
        answer = world.call("ADD", pod, conf=conf)
        require("ADD", judge.success(answer))
        gone = world.call("DEL", pod, conf=conf)
        return outcome(answer, judge.result(answer, version) + judge.success(gone))

    return Check(
        id=f"result.{version}",
        clause="§5 ADD Success",
        done=f"ADD with cniVersion {version}, then DEL",
        expected=f"a result in the shape of {version}",
        run=run,
    )
