"""The runtime's side of CNI: read a network configuration list, run its plugins, remember their results.

Follows libcni: the chain forwards for ADD and CHECK and backwards for DEL, each plugin's result as the next one's
prevResult, the last result kept on disk for CHECK and DEL. The lab's pod runner uses this, so pods are wired there
exactly as a container runtime wires them.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from cni import execution
from cni.execution import InvokeError, PluginFailed
from cni.spec import SUPPORTED, Command, parse_version
from dataplane import atomic_file

__all__ = ["InvokeError", "Network", "NoNetwork", "PluginFailed", "Runtime", "Sandbox", "load_network", "parse_network"]

_RESULT_ON_DEL_SINCE = "0.4.0"


class NoNetwork(InvokeError):
    """There is no usable configuration list."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"CNI configuration {self.path}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A configuration list, as loaded."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The container to attach. `capabilities` reach the plugins that declare them, as their runtimeConfig."""

    container_id: str
    netns: str
    ifname: str = "eth0"
    arguments: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)


class _WireList(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    plugins: list[dict[str, Any]]
    cni_version: str = "0.1.0"
    cni_versions: list[str] = []
    disable_check: bool = False

    @property
    def version(self) -> str:
        """The newest one both sides know; unknown newer ones are for newer runtimes (spec 1.1.0 §1)."""
        known = [version for version in (self.cni_version, *self.cni_versions) if version in SUPPORTED]
        return max(known, key=parse_version, default=self.cni_version)


class _WirePlugin(msgspec.Struct, frozen=True):
    type: str


class _WireTypes(msgspec.Struct, frozen=True):
    """What of every plugin in the list must be there."""

    plugins: list[_WirePlugin]


_LIST: Final = msgspec.json.Decoder(_WireList)
_TYPES: Final = msgspec.json.Decoder(_WireTypes)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


def load_network(conf_dir: Path) -> Network:
    """The network a runtime would use: the first configuration list in the order of file names."""
    paths = sorted(conf_dir.glob("*.conflist"))
    if not paths:
        raise NoNetwork(conf_dir, "no *.conflist file; is the node agent running?")
    return parse_network(paths[0].read_bytes(), paths[0])


def parse_network(text: bytes, path: Path) -> Network:
    try:
        wire = _LIST.decode(text)
        _TYPES.decode(text)
    except msgspec.MsgspecError as error:
        raise NoNetwork(path, str(error)) from error
    if not wire.plugins:
        raise NoNetwork(path, "plugins=[]: a list needs at least one plugin")
    return Network(name=wire.name, version=wire.version, plugins=tuple(wire.plugins), disable_check=wire.disable_check)


class Runtime:
    """Runs plugins found in `bin_dirs` and keeps their results in `cache_dir`."""

    def __init__(self, bin_dirs: Sequence[Path], cache_dir: Path) -> None:
        self._bin_dirs = tuple(bin_dirs)
        self._cache_dir = cache_dir

    def add(self, network: Network, sandbox: Sandbox) -> dict[str, Any]:
        """Attach the container. On failure the runtime owes the plugins a DEL (spec §4), which is made here."""
        result: dict[str, Any] = {}
        try:
            for plugin in network.plugins:
                result = self._run(Command.ADD, network, sandbox, plugin, result)
        except InvokeError as error:
            self._undo(network, sandbox, error)
            raise
        self._remember(network, sandbox, result)
        return result

    def check(self, network: Network, sandbox: Sandbox) -> None:
        if network.disable_check:
            return
        previous = self.cached_result(network, sandbox)
        for plugin in network.plugins:
            self._run(Command.CHECK, network, sandbox, plugin, previous)

    def delete(self, network: Network, sandbox: Sandbox) -> None:
        """Detach the container; one that is not attached is success. Every plugin is asked, whatever another says."""
        is_passed_on = parse_version(network.version) >= parse_version(_RESULT_ON_DEL_SINCE)
        previous = self.cached_result(network, sandbox) if is_passed_on else {}
        failures: list[InvokeError] = []
        for plugin in reversed(network.plugins):
            try:
                self._run(Command.DEL, network, sandbox, plugin, previous)
            except InvokeError as error:
                failures.append(error)
        if failures:
            for further in failures[1:]:
                failures[0].add_note(str(further))
            raise failures[0]
        self._cache_path(network, sandbox).unlink(missing_ok=True)

    def cached_result(self, network: Network, sandbox: Sandbox) -> dict[str, Any]:
        """What ADD returned; empty when nothing readable is kept, with which DEL must cope."""
        try:
            return _OBJECT.decode(self._cache_path(network, sandbox).read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def _undo(self, network: Network, sandbox: Sandbox, error: InvokeError) -> None:
        try:
            self.delete(network, sandbox)
        except InvokeError as failed:
            error.add_note(f"and the DEL after it failed: {failed}")

    def _run(
        self,
        command: Command,
        network: Network,
        sandbox: Sandbox,
        plugin: Mapping[str, Any],
        previous: Mapping[str, Any],
    ) -> dict[str, Any]:
        name = plugin["type"]
        stdin = msgspec.json.encode(_plugin_conf(network, sandbox, plugin, previous))
        environ = {**os.environ, **self._environ(command, sandbox)}
        return execution.run(name, command, environ=environ, stdin=stdin, bin_dirs=self._bin_dirs)

    def _environ(self, command: Command, sandbox: Sandbox) -> dict[str, str]:
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox.container_id,
            "CNI_NETNS": sandbox.netns,
            "CNI_IFNAME": sandbox.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in sandbox.arguments.items()),
            "CNI_PATH": ":".join(map(str, self._bin_dirs)),
        }

    def _remember(self, network: Network, sandbox: Sandbox, result: Mapping[str, Any]) -> None:
        atomic_file.write(self._cache_path(network, sandbox), msgspec.json.encode(result))

    def _cache_path(self, network: Network, sandbox: Sandbox) -> Path:
        # A hash: the three parts may hold any character and together be longer than a file name.
        key = f"{network.name}/{sandbox.container_id}/{sandbox.ifname}".encode()
        return self._cache_dir / f"{hashlib.sha256(key).hexdigest()}.json"


def _plugin_conf(
    network: Network, sandbox: Sandbox, plugin: Mapping[str, Any], previous: Mapping[str, Any]
) -> dict[str, Any]:
    declared = plugin.get("capabilities") or {}
    granted = {name: value for name, value in sandbox.capabilities.items() if declared.get(name)}
    conf = {key: value for key, value in plugin.items() if key != "capabilities"}
    conf |= {"name": network.name, "cniVersion": network.version}
    if granted:
        conf["runtimeConfig"] = granted
    if previous:
        conf["prevResult"] = previous
    return conf
