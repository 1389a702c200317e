"""The `podwire` command: what people type. Programs that run by themselves have commands of their own."""

import click

from cli.affinity import affinity
from cli.cni import cni
from cli.conform import conform
from cli.explain import explain
from cli.install import install, uninstall
from cli.ipam import ipam
from cli.lab import lab


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="podwire")
def main() -> None:
    """Container networking and a Kubernetes service proxy, in Python."""


main.add_command(lab)
main.add_command(ipam)
main.add_command(cni)
main.add_command(conform)
main.add_command(explain)
main.add_command(affinity)
main.add_command(install)
main.add_command(uninstall)

if __name__ == "__main__":
    main()
