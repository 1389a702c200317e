"""`podwire install`: what it writes into a file tree, and that saying it again changes nothing."""

import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from api.__main__ import main as api_main
from cli import installation
from cli.__main__ import main
from cli.installation import BadOptions, HiddenPrograms, Wish
from node.__main__ import main as node_main
from pods.__main__ import main as pods_main

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: secret-token}}]
current-context: c
"""
needs_systemd = pytest.mark.skipif(not shutil.which("systemctl"), reason="needs systemctl")


@pytest.fixture
def kubeconfig(tmp_path) -> Path:
    path = tmp_path / "given"
    path.write_text(KUBECONFIG)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tree(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every file and link below a folder: its mode and content."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def sources() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in SYSTEMD.iterdir()}


@needs_systemd
def test_a_node_gets_its_units_enabled_its_flags_and_a_private_kubeconfig(root, kubeconfig):
    done = run("install", "node", "--root", root, "--kubeconfig", kubeconfig, "--node-options", "--node-ip 192.0.2.7")

    assert done.exit_code == 0, done.output
    assert (root / "etc/podwire/kubeconfig").stat().st_mode & 0o777 == 0o600
    assert 'OPTIONS="--node-ip 192.0.2.7"\n' in (root / "etc/podwire/node.env").read_text()
    for unit in ("podwire-node.service", "podwire-proxy.service"):
        assert (root / "etc/systemd/system" / unit).is_file()
        assert (root / "etc/systemd/system/multi-user.target.wants" / unit).is_symlink()


@needs_systemd
def test_saying_it_again_changes_nothing(root, kubeconfig):
    command = (
        "install",
        "control",
        "node",
        "--root",
        root,
        "--kubeconfig",
        kubeconfig,
        "--api-options",
        "--listen 0.0.0.0:1",
    )
    run(*command)
    before = tree(root)
    again = run(*command)

    assert (again.exit_code, tree(root)) == (0, before)
    assert "write" not in again.output


@needs_systemd
def test_what_the_administrator_changed_stays_when_nothing_is_said_of_it(root):
    run("install", "control", "--root", root)
    (root / "etc/podwire/api.env").write_text('OPTIONS="--listen 192.0.2.1:443"\n')
    (root / "etc/systemd/system/podwire-api.service").write_text("[Service]\n# of an older version\n")
    run("install", "control", "--root", root)

    assert "192.0.2.1:443" in (root / "etc/podwire/api.env").read_text()
    assert "ExecStart" in (root / "etc/systemd/system/podwire-api.service").read_text()


@needs_systemd
def test_uninstalling_removes_what_installing_wrote_and_nothing_else(root, kubeconfig):
    mine = root / "etc/podwire/notes"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    run("install", "control", "node", "--root", root, "--kubeconfig", kubeconfig)
    done = run("uninstall", "--root", root)

    assert done.exit_code == 0, done.output
    assert list(tree(root)) == ["etc/podwire/notes"]


@needs_systemd
def test_uninstalling_where_nothing_is_installed_is_no_error(root):
    assert run("uninstall", "--root", root).exit_code == 0


@needs_systemd
def test_purging_removes_what_podwire_has_kept(root, kubeconfig):
    run("install", "node", "--root", root, "--kubeconfig", kubeconfig)
    (root / "var/lib/podwire/node").mkdir(parents=True)
    (root / "var/lib/podwire/node/leases").write_text("kept")
    run("uninstall", "--root", root)
    kept = tree(root)
    run("uninstall", "--purge", "--root", root)

    assert (list(kept), tree(root)) == (["var/lib/podwire/node/leases"], {})


@pytest.mark.parametrize("command", [("install", "control"), ("uninstall",)])
def test_a_dry_run_changes_nothing(command, root):
    (root / "etc/podwire").mkdir(parents=True)
    (root / "etc/podwire/proxy.env").write_text("kept")
    before = tree(root)
    done = run(*command, "--dry-run", "--root", root)

    assert (done.exit_code, tree(root)) == (0, before)
    assert "would" in done.output


def test_a_node_without_a_way_to_the_api_server_is_told_what_to_give(root):
    done = run("install", "node", "--root", root)

    assert done.exit_code == 1
    assert "give --kubeconfig FILE" in done.output
    assert tree(root) == {}


def test_a_kubeconfig_that_is_none_is_refused_before_anything_is_written(root, tmp_path):
    (tmp_path / "bad").write_text("users: []\n")
    done = run("install", "node", "--root", root, "--kubeconfig", tmp_path / "bad")

    assert (done.exit_code, tree(root)) == (1, {})
    assert f"{tmp_path}/bad" in done.output


def test_the_token_is_not_shown(root, kubeconfig):
    assert "secret-token" not in run("install", "node", "--dry-run", "--root", root, "--kubeconfig", kubeconfig).output


@pytest.mark.parametrize("options", ['--a "b c"', "--a $(id)", "--a\nExecStart=x", "--a 'b'", "--a \\"])
def test_flags_that_systemd_would_read_differently_are_refused(options):
    wish = Wish(roles=("control",), options={"api": options})

    with pytest.raises(BadOptions, match="--api-options"):
        list(installation.files(wish, sources(), Path("/opt/podwire/.venv/bin")))


@pytest.mark.parametrize("home", ["/root/podwire", "/home/me/podwire", "/tmp/podwire"])
def test_programs_that_the_units_cannot_see_are_refused(home):
    with pytest.raises(HiddenPrograms, match="put it elsewhere"):
        installation.require_visible(Path(home) / ".venv/bin")


def test_units_name_the_programs_where_they_are():
    wish = Wish(roles=("control", "node", "pods"), options={})
    units = [file for file in installation.files(wish, sources(), Path("/srv/p/bin")) if file.path.suffix == ".service"]

    assert [file.path.name for file in units] == [
        f"podwire-{name}.service" for name in ("api", "node", "proxy", "pods")
    ]
    assert all(f"ExecStart=/srv/p/bin/{file.path.stem} ".encode() in file.content for file in units)


def test_the_api_server_is_installed_before_what_needs_its_kubeconfig():
    assert installation.waves(("pods", "node", "control")) == (("control",), ("node", "pods"))


def test_a_program_restarts_for_its_own_files_and_for_its_kubeconfig_only():
    changed = {installation.KUBECONFIG, Path("/etc/podwire/api.env")}

    assert [name for name in installation.PROGRAMS if installation.concerns(changed, name)] == list(
        installation.PROGRAMS
    )
    assert not installation.concerns({Path("/etc/podwire/node.env")}, "proxy")


def command_line(unit: str) -> list[str]:
    text = (SYSTEMD / unit).read_text()
    return text.partition("ExecStart=")[2].splitlines()[0].split()


@pytest.mark.parametrize(("name", "program"), [("api", api_main), ("node", node_main), ("pods", pods_main)])
def test_the_flags_in_a_unit_exist(name, program: click.Command):
    given = command_line(installation.unit(name))[1:]
    flags = {argument.partition("=")[0] for argument in given if argument.startswith("--")}

    assert flags <= {name for parameter in program.params for name in parameter.opts}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in installation.PROGRAMS:
        (programs / f"podwire-{program}").symlink_to("/bin/true")
        text = (SYSTEMD / installation.unit(program)).read_text()
        (tmp_path / installation.unit(program)).write_text(text.replace(installation.PROGRAM_DIRECTORY, f"{programs}/"))
    units = [str(tmp_path / installation.unit(program)) for program in installation.PROGRAMS]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)

    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "podwire" in line] == []
