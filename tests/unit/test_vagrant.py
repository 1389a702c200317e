"""The lab on virtual machines, as far as it can be tried without one: its scripts, its settings, the smoke test's judgement."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VAGRANT = Path(__file__).parents[2] / "vagrant"
SCRIPTS = [*sorted(VAGRANT.glob("provision/*.sh")), *(VAGRANT / name for name in ("box/build", "run-tests", "smoke"))]
CONFIG = (VAGRANT / "config.yaml").read_text()
JUDGE = """
try:
    checks._require_turns("control", sys.argv[2].split(), {"a", "b", "c"})
except Failed as error:
    print(error)
"""
# A cluster that has no object at all.
EMPTY = """
class Control:
    name = "control"
    def run(self, script):
        return '{"items": []}' if "-o json" in script else ""
stage = Stage(Control(), {"node1": None}, {"node1": "192.0.2.11"})
"""


def shell(script: str, **environment: str) -> subprocess.CompletedProcess:
    environ = {**os.environ, "PODWIRE_MACHINE": "node1", **environment}
    text = f". {VAGRANT}/provision/steps.sh\n{script}"
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, env=environ, timeout=120)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_for_any_shell(script):
    assert subprocess.run(["sh", "-n", script], capture_output=True).stderr == b""


def test_a_step_tells_its_machine_and_hides_what_its_command_says():
    done = shell("step 'making tea' 'boil water.' echo secret")

    assert done.returncode == 0
    assert done.stdout.startswith("✓ node1: making tea (")
    assert "secret" not in done.stdout + done.stderr


def test_a_failed_step_tells_its_machine_its_last_words_and_what_to_do():
    done = shell("tea() { echo no water; false; }\nstep 'making tea' 'boil water.' tea\necho later")

    assert done.returncode == 1
    assert 'node1: step "making tea" failed with status 1' in done.stderr
    assert "    no water\n" in done.stderr
    assert "What to do: boil water. Then: vagrant provision node1" in done.stderr
    assert "later" not in done.stdout


def test_a_step_ends_with_the_first_command_that_fails():
    done = shell("tea() { false; echo served; }\nstep 'making tea' 'boil water.' tea")

    assert (done.returncode, "served" in done.stderr) == (1, False)


def test_a_file_is_written_once(tmp_path):
    done = shell(f"for _ in 1 2; do if echo text | write {tmp_path}/a/b; then echo changed; else echo same; fi; done")

    assert (done.stdout, (tmp_path / "a/b").read_text()) == ("changed\nsame\n", "text\n")


def scenario(script: str, *arguments: str) -> str:
    """What a script says that uses the smoke test, in a process of its own: the package is found by its folder only."""
    imports = """
import sys
sys.path.insert(0, sys.argv[1])
from scenario import checks, __main__ as table
from scenario.cluster import Stage
from scenario.machines import Failed, eventually
"""
    argv = [sys.executable, "-c", imports + script, VAGRANT, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("answers", ["a b c a b c", "b a c b a c"])
def test_strict_turns_are_good(answers):
    assert scenario(JUDGE, answers) == ""


@pytest.mark.parametrize("answers", ["a b c a c b", "a a b b c c", "a b c a b", "a b c failed a b c"])
def test_anything_else_is_not(answers):
    assert scenario(JUDGE, answers) == f"control was not answered in turn: {answers}"


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ("lambda stage: 'seen'", "✓ title 0 s seen"),
        ("lambda stage: eventually(lambda: False, 'rain', within=0)", "✗ title 0 s not within 0 s: rain"),
        ("lambda stage: 1 / 0", "✗ title 0 s the check itself broke: ZeroDivisionError('division by zero')"),
    ],
    ids=["held", "did not hold", "broke"],
)
def test_every_check_is_a_line_of_the_table(check, line):
    said = " ".join(scenario(f"table.held(('title', {check}), None)").split())
    assert re.sub(r"title \d+ s", "title 0 s", said) == line


def test_a_check_that_needs_pods_says_which_are_not_ready():
    said = scenario(f"{EMPTY}\ntry: stage.await_pods(0)\nexcept Failed as error: print(error)")

    assert said == "not within 0 s: all pods are ready; 0 of 2 are: there are none"


def test_a_question_that_failed_is_asked_again():
    said = scenario("""
answers = iter(["no", "yes"])
def ask():
    answer = next(answers)
    if answer == "no":
        raise Failed("no connection")
    return answer
print(eventually(ask, "an answer", within=5, every=0))
""")

    assert said == "yes"


needs_vagrant = pytest.mark.skipif(not shutil.which("vagrant"), reason="needs vagrant")


def validate(tmp_path: Path, config: str) -> subprocess.CompletedProcess:
    (tmp_path / "config.yaml").write_text(config)
    environ = {
        **os.environ,
        "PODWIRE_VAGRANT_CONFIG": str(tmp_path / "config.yaml"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "machines"),
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }
    argv = ["vagrant", "validate", "--ignore-provider"]
    return subprocess.run(argv, cwd=VAGRANT, capture_output=True, text=True, env=environ, timeout=100)


@needs_vagrant
def test_vagrant_takes_the_settings_there_are(tmp_path):
    done = validate(tmp_path, CONFIG)

    assert done.returncode == 0, done.stderr


@needs_vagrant
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("nodes: 2", "nodes: many"), 'nodes: "many": write a number from 1 to 50'),
        (("mtu: 1500", "mtu: 100"), "mtu: 100: write a number from 1280 to 9000"),
        (("memory:", "memroy:"), "memroy: 1024: there is no such setting"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told_with_what_to_write(tmp_path, change, told):
    done = validate(tmp_path, CONFIG.replace(*change))

    assert done.returncode != 0
    assert told in done.stderr + done.stdout
