"""The words of the CNI specification: versions, verbs, error codes, and the error object a runtime reads.

https://github.com/containernetworking/cni/blob/spec-v1.1.0/SPEC.md; codes from 100 on are the plugin's own (§5).
"""

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Any

PLUGIN_TYPE = "podwire"
IPAM_TYPE = "podwire-ipam"
PLUGIN_VARIABLE = "PODWIRE_PLUGIN"
"""Which of the two the runtime executed: both run the same code."""

Version = tuple[int, ...]
SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = SUPPORTED[-1]
UNSTATED = "0.1.0"  # a configuration without cniVersion


class Command(StrEnum):
    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


SINCE = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}


class Code(IntEnum):
    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8  # libcni's ErrInvalidNetNS; not in the specification's table
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50  # STATUS: an ADD would fail
    NOT_AVAILABLE_LIMITED = 51  # STATUS: and pods that exist may have lost connectivity
    INTERNAL = 999
    POOL_EXHAUSTED = 100
    ALREADY_ATTACHED = 101
    CHECK_FAILED = 102
    LEASES_UNREADABLE = 103
    KERNEL_REFUSED = 104
    ADDRESS_IN_USE = 105
    PORT_TAKEN = 106


class CniError(Exception):
    """What the runtime is told when a command fails."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(code, msg, details)
        self.code, self.msg, self.details = code, msg, details

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg

    def to_dict(self, version: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"cniVersion": version, "code": int(self.code), "msg": self.msg}
        return {**shown, "details": self.details} if self.details else shown


def invalid(field: str, value: object, problem: str) -> CniError:
    """A configuration value that cannot be used."""
    return CniError(Code.INVALID_CONFIG, f"{field}={value!r}: {problem}")


def parse_version(text: str) -> Version:
    """A version to compare with another. Raises ValueError."""
    return tuple(int(part) for part in text.split("."))


def require_version(version: str, command: Command, supported: Sequence[str] = SUPPORTED) -> None:
    """Raise unless this configuration version is served, and has this command."""
    if version not in supported:
        listed = ", ".join(supported)
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f'config is "{version}", plugin supports [{listed}]; set cniVersion to one of these',
        )
    if command in SINCE and parse_version(version) < parse_version(SINCE[command]):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"config version does not allow {command}",
            f'config is "{version}", {command} came with {SINCE[command]}',
        )


def version_report(version: str = LATEST) -> dict[str, Any]:
    """The answer to VERSION."""
    return {"cniVersion": version, "supportedVersions": list(SUPPORTED)}


def about(plugin: str = PLUGIN_TYPE) -> str:
    """What a person sees who runs the plugin by hand, with no CNI_COMMAND set."""
    return f"CNI plugin {plugin}\nCNI protocol versions supported: {', '.join(SUPPORTED)}\n"
