"""What is wrong with an answer, or with the kernel's state after one. Pure; an empty list is a pass."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cni.conform import shapes
from cni.conform.answer import Answer
from cni.spec import Code, parse_version

KNOWN_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_FIRST_FREE_CODE = 100  # §5 Error: 0 to 99 are the specification's
_WELL_KNOWN = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51})  # 8 is libcni's: the namespace cannot be used


def refusal(answer: Answer, codes: Collection[int] = (), *, names: Sequence[str] = ()) -> list[str]:
    """An error is an object on stdout with exit status not 0 (§5 Error); `names` must all be in its text.

    Its cniVersion is a matter of its own: a plugin that forgets it would fail all that is judged here.
    """
    if answer.exit_code is None:
        return ["no answer in time"]
    if answer.is_success:
        return [f"it was not refused: {answer}"]
    if not answer.body:
        return [f"no error object on stdout: {answer}"]
    return _error_problems(answer.body, codes, names)


def _error_problems(error: Mapping[str, Any], codes: Collection[int], names: Sequence[str]) -> list[str]:
    code, text = error.get("code"), f"{error.get('msg', '')} {error.get('details', '')}"
    found = []
    if not isinstance(error.get("msg"), str) or not error["msg"]:
        found.append("no msg")
    if not isinstance(code, int):
        found.append(f"code is {code!r}")
    elif codes and code not in codes:
        found.append(f"code {code}: {error.get('msg')}")
    elif code not in _WELL_KNOWN and code < _FIRST_FREE_CODE:
        found.append(f"code {code} is reserved")
    return found + [f"{name} is not named in: {text.strip()}" for name in names if name not in text]


def success(answer: Answer) -> list[str]:
    return [] if answer.is_success else [str(answer)]


def silence(answer: Answer) -> list[str]:
    """Success without any output: what CHECK, GC, STATUS and DEL answer."""
    return success(answer) or ([f"output: {answer}"] if answer.stdout.strip() else [])


def result(answer: Answer, version: str) -> list[str]:
    """A successful ADD's answer: one JSON document, a result of this version."""
    if not answer.is_success:
        return [str(answer)]
    if not answer.body:
        return [f"stdout is not one JSON object: {answer}"]
    return shapes.problems(answer.body, version)


def version_report(answer: Answer) -> list[str]:
    found = success(answer)
    if found:
        return found
    listed = answer.body.get("supportedVersions")
    if not isinstance(listed, list) or not listed:
        return [f"no supportedVersions: {answer}"]
    found += [f"supportedVersions holds {each!r}" for each in listed if not _is_version(each)]
    if not _is_version(answer.body.get("cniVersion")):
        found.append(f"cniVersion is {answer.body.get('cniVersion')!r}")
    return found


def _is_version(text: Any) -> bool:
    try:
        return isinstance(text, str) and len(parse_version(text)) == len((0, 0, 0))
    except ValueError:
        return False


def advertised(answer: Answer) -> tuple[str, ...]:
    """The versions of a report that this kit knows, oldest first."""
    listed = answer.body.get("supportedVersions")
    return tuple(version for version in KNOWN_VERSIONS if isinstance(listed, list) and version in listed)


def unchanged(before: frozenset[str], after: frozenset[str], where: str) -> list[str]:
    """Nothing came and nothing went."""
    return [f"{where} lost {line}" for line in sorted(before - after)] + [
        f"{where} got {line}" for line in sorted(after - before)
    ]


def distinct(addresses: Sequence[shapes.Interface]) -> list[str]:
    seen: set[shapes.Interface] = set()
    twice = {address for address in addresses if address in seen or seen.add(address)}  # type: ignore[func-returns-value]
    return [f"{address} was given twice" for address in sorted(twice, key=str)]


INVALID_ENVIRONMENT = (Code.INVALID_ENVIRONMENT,)
