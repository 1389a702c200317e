"""Stopping and starting single components of a lab, for experiments: what happens to a Service while its proxy is gone?

The wish is a file in the lab's folder, so it outlives shells and supervisors; the supervisor is told to look.
"""

import signal
import sys
import time
from collections.abc import Callable

from lab import plan, processes, spelling, state, supervisor
from lab.errors import LabError, OptionError
from lab.plan import Component, Lab

_PATIENCE = 30.0


def find(lab: Lab, name: str) -> Component:
    components = plan.components(lab, sys.executable)
    for component in components:
        if component.name == name:
            return component
    raise OptionError("COMPONENT", name, f"the lab has {', '.join(each.name for each in components)}")


def stop(lab: Lab, component: Component) -> None:
    """Stop a component and keep it stopped until `start` or the next `up`."""
    state.set_stopped(lab, component, stopped=True)
    _tell_supervisor(lab)
    _await(lambda: _pid(lab, component) is None, f"{component.name} does not end")


def start(lab: Lab, component: Component) -> int:
    """Start a component again; return its pid."""
    state.set_stopped(lab, component, stopped=False)
    _tell_supervisor(lab)
    return _await(lambda: _pid(lab, component), f"{component.name} does not start; see {component.log}")


def _pid(lab: Lab, component: Component) -> int | None:
    running = processes.of_lab(lab.directory).get(component.name)
    return running[0].pid if running else None


def _tell_supervisor(lab: Lab) -> None:
    running = processes.of_lab(lab.directory).get(supervisor.ROLE)
    if not running:
        raise LabError(
            f"the supervisor of the lab {lab.name!r} does not run", f"Start it: {spelling.command('up', lab.directory)}"
        )
    processes.send(running[0], signal.SIGHUP)


def _await(condition: Callable[[], int | bool | None], problem: str) -> int:
    deadline = time.monotonic() + _PATIENCE
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"{problem} within {_PATIENCE:.0f} s")
        time.sleep(0.02)
    return int(answer)
