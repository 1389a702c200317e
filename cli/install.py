"""`podwire install` and `podwire uninstall`: podwire's programs as systemd units of this machine.

Repeating it changes nothing; after an upgrade of podwire, or with other flags, it changes what differs and restarts that.
Pods and Services live on while the programs restart.
"""

import compileall
import contextlib
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import cli
from cli import installation
from cli.installation import BadOptions, HiddenPrograms, NoKubeconfig, Wish
from cli.systemd import Systemd, SystemdError
from dataplane import atomic_file
from kube.connection import ConnectionConfigError, from_kubeconfig

_HOME = Path(cli.__file__).parents[1]
_SOURCES = _HOME / "deploy" / "systemd"

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    show_default=True,
    help="Another file tree, such as an image's: units are enabled there, nothing is started.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done.")


def _options(command: Any) -> Any:
    """--api-options and so on, one for each program."""
    for program in reversed(installation.PROGRAMS):
        command = click.option(f"--{program}-options", metavar="FLAGS", help=f"Flags of podwire-{program}.")(command)
    return command


@click.command()
@click.argument("roles", nargs=-1, required=True, type=click.Choice(tuple(installation.ROLES)))
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"How this node reaches the API server; copied to {installation.KUBECONFIG}.",
)
@_options
@click.option("--restart", is_flag=True, help="Restart what has not changed as well: after an upgrade of podwire.")
@_dry_run
@_root
def install(*, roles: tuple[str, ...], kubeconfig: Path | None, root: Path, **flags: Any) -> None:
    """Run podwire's programs as systemd units.

    ROLES are what this machine is for: `control` serves the API, `node` connects pods and answers Services, `pods` runs
    pods in containerd where no kubelet does.
    """
    how = How(root=root, dry_run=flags.pop("dry_run"), restart=flags.pop("restart"))
    options = {name.removesuffix("_options"): value for name, value in flags.items() if value is not None}
    with _told():
        how.require_root()
        for wave in installation.waves(roles):
            given = None if wave == (installation.CONTROL,) else _credentials(kubeconfig, roles, how)
            how.carry_out(Wish(roles=wave, options=options, kubeconfig=given))


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """Where, and how much of it really."""

    root: Path
    dry_run: bool
    restart: bool = False

    def place(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def require_root(self) -> None:
        if self.root == Path("/") and not self.dry_run and os.geteuid():
            raise click.ClickException("changing this machine's units takes root; --dry-run does not")

    def carry_out(self, wish: Wish) -> None:
        directory = Path(sys.prefix) / "bin"
        if self.root == Path("/"):
            installation.require_visible(directory)
        files = installation.files(wish, _sources(), directory)
        due = [file for file in files if file.is_due(atomic_file.read(self.place(file.path)))]
        for file in due:
            click.echo(f"{'would write' if self.dry_run else 'write'} {file.path}")
        if self.dry_run:
            return
        for folder in installation.folders(wish.roles):
            self.place(folder).mkdir(parents=True, exist_ok=True)
        for file in due:
            atomic_file.write(self.place(file.path), file.content, mode=file.mode)
        _compile()
        self._start(wish, {file.path for file in due})

    def _start(self, wish: Wish, written: Collection[Path]) -> None:
        programs, systemd = installation.programs(wish.roles), Systemd(self.root)
        concerned = [name for name in programs if self.restart or installation.concerns(written, name)]
        units = [installation.unit(name) for name in programs]
        systemd.enable(units)
        systemd.start(units, again=[installation.unit(name) for name in concerned])
        click.echo(f"{'running' if systemd.is_live else 'enabled'}: {', '.join(units)}")


def _compile() -> None:
    """Leave bytecode beside the sources: the units may not write there, and would compile them at each start."""
    for package in installation.PACKAGES:
        compileall.compile_dir(_HOME / package, quiet=2)


def _credentials(given: Path | None, roles: Collection[str], how: How) -> bytes | None:
    """The kubeconfig to write; None when there is one and nobody gave another."""
    kept = how.place(installation.KUBECONFIG)
    if given is None and not kept.exists():
        if installation.CONTROL not in roles or how.dry_run or how.root != Path("/"):
            raise NoKubeconfig
        given = installation.ADMIN_KUBECONFIG  # podwire-api has been up for seconds, and writes this before it serves
    if given is None:
        return None
    from_kubeconfig(given)
    return given.read_bytes()


def _sources() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _SOURCES.iterdir()}


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BadOptions, HiddenPrograms, NoKubeconfig, ConnectionConfigError, SystemdError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.command()
@click.option("--purge", is_flag=True, help="Also what podwire has kept: the API's objects, leases, the plugin.")
@_dry_run
@_root
def uninstall(*, purge: bool, dry_run: bool, root: Path) -> None:
    """Stop podwire's units and remove what `podwire install` has written.

    Pods that run, and the tables and routes that serve them, stay as they are until the machine restarts.
    """
    how = How(root=root, dry_run=dry_run)
    with _told():
        how.require_root()
        found = [path for path in _removable(purge=purge) if how.place(path).exists()]
        for path in found:
            click.echo(f"{'would remove' if dry_run else 'remove'} {path}")
        if not dry_run:
            _remove(found, how)


def _removable(*, purge: bool) -> tuple[Path, ...]:
    return (*installation.installed_paths(), *(installation.kept_paths() if purge else ()))


def _remove(paths: Iterable[Path], how: How) -> None:
    paths, systemd = list(paths), Systemd(how.root)
    if units := [path.name for path in paths if path.parent == installation.UNIT_DIRECTORY]:
        systemd.disable(units)
    for path in map(how.place, paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    systemd.reload()
