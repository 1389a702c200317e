"""`podwire cni`: the plugin on machines whose container runtime is not podwire's."""

import sys
from pathlib import Path

import click

from cni import install as installation


@click.group()
def cni() -> None:
    """The CNI plugin on this machine."""


@cni.command()
@click.option(
    "--bin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/opt/cni/bin"),
    show_default=True,
    help="Where the container runtime looks for plugins.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/run/podwire/cni.sock"),
    show_default=True,
    help="Where podwire-node listens; without it the plugin does the work itself.",
)
def install(bin_dir: Path, socket: Path) -> None:
    """Install the plugin executables `podwire` and `podwire-ipam`, replacing older ones at once."""
    try:
        installation.install(bin_dir, Path(sys.executable), socket)
    except installation.InstallError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"installed {' and '.join(str(bin_dir / name) for name in installation.EXECUTABLES)}")
