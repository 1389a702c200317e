"""The runtime's side: which configuration is used, how the chain runs, what is remembered."""

import json
from pathlib import Path

import pytest

from cni import invoke
from cni.invoke import Sandbox

# A plugin that notes every call and answers with what its configuration tells it to.
PLUGIN = """#!/bin/sh
conf=$(cat)
printf '%s %s %s %s %s\\n' "$(basename "$0")" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_ARGS" "$conf" >> "$(dirname "$0")/../calls"
[ "$CNI_COMMAND" = "$(cat "$(dirname "$0")/../fail-$(basename "$0")" 2>/dev/null)" ] && { printf '{"code": 7, "msg": "mtu=1", "details": "too small"}'; exit 1; }
[ "$CNI_COMMAND" = ADD ] && printf '{"cniVersion": "1.0.0", "by": "%s"}' "$(basename "$0")"
exit 0
"""
POD = Sandbox(container_id="web", netns="/run/netns/web", arguments={"IgnoreUnknown": "1", "K8S_POD_NAME": "web"})


@pytest.fixture
def runtime(tmp_path) -> invoke.Runtime:
    for name in ("first", "second"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(PLUGIN)
        path.chmod(0o755)
    return invoke.Runtime([tmp_path / "empty", tmp_path / "bin"], tmp_path / "cache")


def network(**changes):
    plugins = [{"type": "first", "capabilities": {"mac": True}, "colour": "blue"}, {"type": "second"}]
    conflist = {"cniVersion": "1.0.0", "name": "net", "plugins": plugins, **changes}
    return invoke.parse_network(json.dumps(conflist).encode(), Path("net.conflist"))


def calls(tmp_path) -> list[tuple[str, str, dict]]:
    lines = (tmp_path / "calls").read_text().splitlines()
    parts = [line.split(" ", 4) for line in lines]
    return [(plugin, command, json.loads(conf)) for plugin, command, _, _, conf in parts]


def test_first_list_in_the_order_of_names_is_used(tmp_path):
    for name in ("20-b", "10-a"):
        text = {"name": name, "plugins": [{"type": "first"}]}
        (tmp_path / f"{name}.conflist").write_text(json.dumps(text))
    assert invoke.load_network(tmp_path).name == "10-a"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"plugins": [{"type": "x"}]}', '{"name": "n", "plugins": []}', '{"name": "n", "plugins": [{}]}'],
)
def test_unusable_list_is_named(tmp_path, text):
    (tmp_path / "10-net.conflist").write_text(text)
    with pytest.raises(invoke.NoNetwork, match=r"10-net\.conflist"):
        invoke.load_network(tmp_path)


def test_folder_without_a_list_is_named(tmp_path):
    with pytest.raises(invoke.NoNetwork, match=str(tmp_path)):
        invoke.load_network(tmp_path)


def test_chain_runs_forwards_with_each_result_as_the_next_ones_previous(runtime, tmp_path):
    assert runtime.add(network(), POD) == {"cniVersion": "1.0.0", "by": "second"}
    first, second = calls(tmp_path)
    assert [first[:2], second[:2]] == [("first", "ADD"), ("second", "ADD")]
    assert "prevResult" not in first[2]
    assert second[2]["prevResult"]["by"] == "first"


def test_plugin_gets_its_own_keys_and_the_lists_name_and_version(runtime, tmp_path):
    runtime.add(network(), POD)
    assert calls(tmp_path)[0][2] == {"type": "first", "colour": "blue", "name": "net", "cniVersion": "1.0.0"}


def test_capabilities_reach_only_plugins_that_declare_them(runtime, tmp_path):
    pod = Sandbox(container_id="web", netns="/x", capabilities={"mac": "02:00:00:00:00:01", "dns": {}})
    runtime.add(network(), pod)
    assert [conf.get("runtimeConfig") for _, _, conf in calls(tmp_path)] == [{"mac": "02:00:00:00:00:01"}, None]


def test_delete_runs_backwards_with_the_result_and_forgets_it(runtime, tmp_path):
    runtime.add(network(), POD)
    runtime.delete(network(), POD)
    deleted = calls(tmp_path)[2:]
    assert [(plugin, conf["prevResult"]["by"]) for plugin, _, conf in deleted] == [
        ("second", "second"),
        ("first", "second"),
    ]
    assert runtime.cached_result(network(), POD) == {}


def test_delete_before_0_4_0_gets_no_result(runtime, tmp_path):
    runtime.add(network(cniVersion="0.3.1"), POD)
    runtime.delete(network(cniVersion="0.3.1"), POD)
    assert all("prevResult" not in conf for _, command, conf in calls(tmp_path) if command == "DEL")


def test_check_gets_the_last_result_everywhere(runtime, tmp_path):
    runtime.add(network(), POD)
    runtime.check(network(), POD)
    assert [conf["prevResult"]["by"] for _, command, conf in calls(tmp_path) if command == "CHECK"] == ["second"] * 2


def test_list_may_switch_check_off(runtime, tmp_path):
    runtime.add(network(), POD)
    runtime.check(network(disableCheck=True), POD)
    assert "CHECK" not in [command for _, command, _ in calls(tmp_path)]


def test_failed_add_is_followed_by_delete_and_tells_the_plugins_words(runtime, tmp_path):
    (tmp_path / "fail-second").write_text("ADD")
    with pytest.raises(invoke.PluginFailed, match="second ADD: mtu=1: too small") as caught:
        runtime.add(network(), POD)
    assert caught.value.code == 7
    assert [call[:2] for call in calls(tmp_path)][2:] == [("second", "DEL"), ("first", "DEL")]


def test_failed_delete_does_not_keep_the_others_from_theirs(runtime, tmp_path):
    runtime.add(network(), POD)
    (tmp_path / "fail-second").write_text("DEL")
    with pytest.raises(invoke.PluginFailed, match="second DEL"):
        runtime.delete(network(), POD)
    assert calls(tmp_path)[-1][:2] == ("first", "DEL")
    assert runtime.cached_result(network(), POD)


def test_result_that_cannot_be_read_does_not_block_delete(runtime, tmp_path):
    runtime.add(network(), POD)
    for path in (tmp_path / "cache").iterdir():
        path.write_text("{")
    runtime.delete(network(), POD)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["absent", "../bin/first"])
def test_plugin_that_is_not_installed_is_named(runtime, name):
    with pytest.raises(invoke.PluginFailed, match=f"{name} ADD: plugin not found"):
        runtime.add(network(plugins=[{"type": name}]), POD)


def test_plugin_that_says_nothing_readable_is_quoted(runtime, tmp_path):
    (tmp_path / "bin" / "first").write_text("#!/bin/sh\necho oops >&2\nexit 3\n")
    with pytest.raises(invoke.PluginFailed, match="first ADD: exit 3: oops"):
        runtime.add(network(), POD)


@pytest.mark.parametrize(
    ("stated", "others", "chosen"),
    [
        ("1.0.0", ["1.0.0", "1.1.0"], "1.1.0"),
        ("1.1.0", ["0.4.0"], "1.1.0"),
        ("1.0.0", ["9.0.0", "new"], "1.0.0"),
        ("0.4.0", [], "0.4.0"),
    ],
)
def test_the_newest_version_both_sides_know_is_spoken(stated, others, chosen):
    text = json.dumps({"cniVersion": stated, "cniVersions": others, "name": "net", "plugins": [{"type": "first"}]})
    assert invoke.parse_network(text.encode(), Path("net.conflist")).version == chosen
