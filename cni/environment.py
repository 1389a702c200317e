"""The CNI_* variables of a call: which command needs which, and what each may look like.

Same rules and codes as the reference `skel`: every missing variable is named at once (code 4), then each is checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cni.spec import CniError, Code, Command

_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_IFNAME_FORBIDDEN = re.compile(r"[/:\s]")
IFNAME_MAX = 15  # IFNAMSIZ without the final NUL

_ATTACHMENT = frozenset({Command.ADD, Command.CHECK, Command.DEL})
_REQUIRED: Mapping[str, frozenset[Command]] = {
    "CNI_CONTAINERID": _ATTACHMENT,
    "CNI_NETNS": frozenset({Command.ADD, Command.CHECK}),
    "CNI_IFNAME": _ATTACHMENT,
    "CNI_PATH": _ATTACHMENT | {Command.GC, Command.STATUS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One call's variables, checked. `netns` is empty when a DEL comes without one."""

    command: Command
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    may_share_netns: bool = False  # CNI_NETNS_OVERRIDE: the runtime insists on the plugin's own namespace
    variables: Mapping[str, str] = field(default_factory=dict)  # all of CNI_*, for a plugin this one delegates to
    request: str = ""  # one shim call's name: a second try of the same call recognises what the first one left

    @property
    def pod(self) -> str:
        """`namespace/pod` when the runtime is Kubernetes' and says so."""
        namespace, name = self.arguments.get("K8S_POD_NAMESPACE", ""), self.arguments.get("K8S_POD_NAME", "")
        return f"{namespace}/{name}" if namespace and name else ""


REQUEST_VARIABLE = "PODWIRE_REQUEST"


def parse_environment(environ: Mapping[str, str]) -> Environment:
    """Read and check the variables of a call. Raises CniError."""
    command = _command(environ.get("CNI_COMMAND", ""))
    missing = [name for name, commands in _REQUIRED.items() if command in commands and not environ.get(name)]
    if missing:
        raise _invalid(f"required env variables [{','.join(missing)}] missing", f"{command} needs them")
    if command not in _ATTACHMENT:
        return Environment(command=command, variables=_variables(environ))
    _require_identifier("CNI_CONTAINERID", environ["CNI_CONTAINERID"])
    require_ifname("CNI_IFNAME", environ["CNI_IFNAME"])
    return Environment(
        command=command,
        container_id=environ["CNI_CONTAINERID"],
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ["CNI_IFNAME"],
        # What undoes an attachment must not fail on arguments it does not use.
        arguments=parse_arguments(environ.get("CNI_ARGS", "")) if command is Command.ADD else {},
        may_share_netns=environ.get("CNI_NETNS_OVERRIDE", "").upper() in {"TRUE", "1"},
        variables=_variables(environ),
        request=environ.get(REQUEST_VARIABLE, ""),
    )


def _variables(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("CNI_")}


def _command(text: str) -> Command:
    try:
        return Command(text)
    except ValueError:
        known = ", ".join(Command)
        raise _invalid(f"unknown CNI_COMMAND: {text}", f"this plugin knows {known}") from None


def is_identifier(text: str) -> bool:
    """Whether a container id or network name has the specified form."""
    return _IDENTIFIER.fullmatch(text) is not None


def _require_identifier(name: str, text: str) -> None:
    if not is_identifier(text):
        raise _invalid(f"{name}={text!r} is invalid", "letters, digits, and after the first also _ . -")


def ifname_problem(text: str) -> str:
    """What keeps a text from being an interface name; empty when nothing does."""
    if not text or len(text.encode()) > IFNAME_MAX:
        return f"an interface name has 1 to {IFNAME_MAX} characters"
    if text in {".", ".."} or _IFNAME_FORBIDDEN.search(text):
        return "an interface name is not . or .. and has no slash, colon or white space"
    return ""


def require_ifname(name: str, text: str) -> None:
    if problem := ifname_problem(text):
        raise _invalid(f"{name}={text!r} is invalid", problem)


def parse_arguments(text: str) -> dict[str, str]:
    """CNI_ARGS: `K=V;K=V`. A key nobody here knows is an error, unless IgnoreUnknown says otherwise."""
    arguments: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, separator, value = pair.partition("=")
        if not separator or "=" in value:
            raise _invalid(f"CNI_ARGS: invalid pair {pair!r}", "write KEY=VALUE;KEY=VALUE")
        arguments[key] = value
    ignore = arguments.get("IgnoreUnknown", "").lower() in {"1", "true"}
    known = {"IgnoreUnknown", "IP", "MAC"}
    unknown = [key for key in arguments if not (ignore or key in known or key.startswith("K8S_POD_"))]
    if unknown:
        raise _invalid(f"CNI_ARGS: unknown args {unknown}", "remove them or add IgnoreUnknown=1")
    return arguments


def _invalid(msg: str, details: str) -> CniError:
    return CniError(Code.INVALID_ENVIRONMENT, msg, details)
