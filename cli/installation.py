"""What podwire on a machine consists of besides itself: for each role its systemd units and what they read. Pure.

A role is what a machine is for: `control` serves the API, `node` connects pods and answers Services, `pods` runs
pods in containerd. Files of configuration belong to the administrator once they are there: they change only by what
`podwire install` is told.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAM_DIRECTORY: Final = "/opt/podwire/.venv/bin/"  # where the units in deploy/systemd expect the programs
UNIT_DIRECTORY: Final = Path("/etc/systemd/system")
CONFIGURATION: Final = Path("/etc/podwire")
KUBECONFIG: Final = CONFIGURATION / "kubeconfig"
NETWORKD: Final = Path("/etc/systemd/networkd.conf.d/podwire.conf")
ADMIN_KUBECONFIG: Final = Path("/var/lib/podwire/api/admin.kubeconfig")

CONTROL: Final = "control"
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    CONTROL: ("api",),
    "node": ("node", "proxy"),
    "pods": ("pods",),
}
PROGRAMS: Final = tuple(program for programs in ROLES.values() for program in programs)
PACKAGES: Final = ("api", "cni", "dataplane", "ipam", "kube", "node", "pods", "proxy")  # what the programs import
# Folders that must exist before systemd can make them writable for a unit.
FOLDERS: Final[Mapping[str, tuple[Path, ...]]] = {
    "node": (Path("/etc/cni/net.d"), Path("/opt/cni/bin"), Path("/var/lib/podwire")),
}
# Hidden from the units (ProtectHome, PrivateTmp): programs there could not start.
HIDDEN: Final = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - compared
_EXECUTABLES: Final = ("podwire", "podwire-ipam")
_UNQUOTABLE: Final = frozenset("\"'\\$\n\r")


class BadOptions(Exception):
    """Flags that cannot stand in a file systemd reads."""

    def __init__(self, program: str, options: str) -> None:
        super().__init__(program, options)
        self.program, self.options = program, options

    def __str__(self) -> str:
        return f"--{self.program}-options {self.options!r}: write flags without quotes, backslashes, $ and line ends"


class HiddenPrograms(Exception):
    """podwire is where its units cannot see it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.directory = directory

    def __str__(self) -> str:
        return f"podwire is in {self.directory}, which its units cannot see; put it elsewhere, such as in /opt/podwire"


class NoKubeconfig(Exception):
    """A node that has no way to the API server."""

    def __str__(self) -> str:
        return (
            f"{KUBECONFIG} does not exist: give --kubeconfig FILE; the control machine's is {ADMIN_KUBECONFIG}, and it"
            " must name the server by an address that this machine reaches"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that shall be there. What is `owned` by the administrator is written only where it is absent."""

    path: Path
    content: bytes
    mode: int = 0o644
    owned: bool = False

    def is_due(self, found: bytes) -> bool:
        """Whether it must be written over what was found, nothing being nothing."""
        return found != self.content and not (self.owned and found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says."""

    roles: tuple[str, ...]
    options: Mapping[str, str]  # by program; absent: as it is
    kubeconfig: bytes | None = None


def programs(roles: Iterable[str]) -> tuple[str, ...]:
    wanted = set(roles)
    return tuple(program for role, of_role in ROLES.items() if role in wanted for program in of_role)


def unit(program: str) -> str:
    return f"podwire-{program}.service"


def files(wish: Wish, sources: Mapping[str, bytes], directory: Path) -> Iterator[File]:
    """Every file of the roles. `sources` are those of deploy/systemd by name, `directory` is where the programs are."""
    for program in programs(wish.roles):
        content = sources[unit(program)].replace(PROGRAM_DIRECTORY.encode(), f"{directory}/".encode())
        yield File(path=UNIT_DIRECTORY / unit(program), content=content)
        yield _options(program, wish.options.get(program))
    if "node" in wish.roles:
        yield File(path=NETWORKD, content=sources["networkd-podwire.conf"])
    if wish.kubeconfig is not None:
        yield File(path=KUBECONFIG, content=wish.kubeconfig, mode=0o600)


def require_visible(directory: Path) -> None:
    """Raise HiddenPrograms for a folder the units could not start programs from."""
    if any(directory.is_relative_to(hidden) for hidden in HIDDEN):
        raise HiddenPrograms(directory)


def _options(program: str, options: str | None) -> File:
    if options is not None and _UNQUOTABLE & set(options):
        raise BadOptions(program, options)
    text = (
        f"# Flags of podwire-{program}, see podwire-{program} --help. They count from the next"
        f" systemctl restart podwire-{program}.\n"
        f'OPTIONS="{options or ""}"\n'
    )
    return File(path=CONFIGURATION / f"{program}.env", content=text.encode(), owned=options is None)


def folders(roles: Iterable[str]) -> tuple[Path, ...]:
    return tuple(folder for role in roles for folder in FOLDERS.get(role, ()))


def concerns(written: Collection[Path], program: str) -> bool:
    """Whether a program that runs must start again, now that these files have changed."""
    own = {UNIT_DIRECTORY / unit(program), CONFIGURATION / f"{program}.env"}
    return bool(own & set(written)) or (KUBECONFIG in written and program not in ROLES[CONTROL])


def kept_paths() -> tuple[Path, ...]:
    """What podwire itself keeps on a machine that is no lab's."""
    # The API's folder is a link to where systemd keeps what belongs to a unit's own user.
    state = (Path("/var/lib/podwire"), Path("/var/lib/private/podwire"))
    return (*state, Path("/etc/cni/net.d/10-podwire.conflist"), *(Path("/opt/cni/bin") / name for name in _EXECUTABLES))


def installed_paths() -> tuple[Path, ...]:
    """Everything an installation of any role may have written."""
    units = (UNIT_DIRECTORY / unit(program) for program in PROGRAMS)
    options = (CONFIGURATION / f"{program}.env" for program in PROGRAMS)
    return (*units, *options, KUBECONFIG, NETWORKD)


def waves(roles: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The roles in the order they can be installed: what needs a kubeconfig goes after what makes one."""
    wanted = set(roles)
    first = tuple(role for role in ROLES if role in wanted and role == CONTROL)
    rest = tuple(role for role in ROLES if role in wanted and role != CONTROL)
    return tuple(wave for wave in (first, rest) if wave)
