"""What a lab's long-running processes write, and that they go on when they cannot."""

import subprocess
import sys

import structlog

from lab.plan import Lab
from lab.supervisor import Supervisor
from pods.supervision import History

SPEAKER = """
import structlog
from pods import logs
logs.configure()
structlog.get_logger().debug("every few seconds")
structlog.get_logger().info("once")
"""


def test_what_is_said_for_debugging_is_not_kept():
    said = subprocess.run([sys.executable, "-c", SPEAKER], capture_output=True, text=True, timeout=120, check=True)

    assert "event=once" in said.stderr
    assert "every few seconds" not in said.stderr


def test_a_supervisor_that_cannot_write_its_report_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    lab = Lab(name="lab", directory=tmp_path / "file", node_count=1, api_port=6443)
    supervisor = Supervisor(lab, sys.executable)
    supervisor._history["api"] = History(restarts=1)

    with structlog.testing.capture_logs() as logs:
        supervisor.advance()

    assert [entry["log_level"] for entry in logs] == ["warning"]


def test_a_supervisor_that_cannot_read_its_labs_description_goes_on(tmp_path):
    (tmp_path / "lab.json").write_text("{")
    supervisor = Supervisor(Lab(name="lab", directory=tmp_path, node_count=1, api_port=6443), sys.executable)

    with structlog.testing.capture_logs() as logs:
        assert supervisor.reload()

    assert "is damaged" in logs[0]["error"]
