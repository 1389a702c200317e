"""What the conformance kit calls right and wrong, answer by answer."""

import json

import pytest

from cni.conform import confs, judge, shapes
from cni.conform.answer import Answer
from cni.conform.verdict import Finding, NotApplicable, Scorecard, Verdict

POD = "10.213.0.2/24"
NEW = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "conform0"}, {"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/pod"}],
    "ips": [{"address": POD, "gateway": "10.213.0.1", "interface": 1}],
    "routes": [{"dst": "198.51.100.0/24"}],
}
MIDDLE = {**NEW, "cniVersion": "0.4.0", "ips": [{**NEW["ips"][0], "version": "4"}], "dns": {}}
OLD = {"cniVersion": "0.2.0", "ip4": {"ip": POD, "gateway": "10.213.0.1", "routes": [{"dst": "0.0.0.0/0"}]}, "dns": {}}
ERROR = {"cniVersion": "1.0.0", "code": 4, "msg": "required env variables [CNI_IFNAME] missing"}


def answer(body, exit_code=0) -> Answer:
    return Answer(exit_code=exit_code, stdout=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(("result", "version"), [(OLD, "0.2.0"), (MIDDLE, "0.4.0"), (NEW, "1.0.0")])
def test_results_of_each_shape_are_right_in_their_version(result, version):
    assert judge.result(answer(result), version) == []


@pytest.mark.parametrize(
    ("result", "version", "problem"),
    [
        ({**NEW, "cniVersion": "1.1.0"}, "1.0.0", "cniVersion is '1.1.0'"),
        ({**OLD, "cniVersion": "1.0.0"}, "1.0.0", "ip4 belongs to earlier versions"),
        ({**NEW, "cniVersion": "0.2.0"}, "0.2.0", "ips belongs to later versions"),
        ({**MIDDLE, "cniVersion": "1.0.0"}, "1.0.0", "ips[0].version was removed in 1.0.0"),
        ({**NEW, "cniVersion": "0.4.0"}, "0.4.0", "ips[0].version is None, not '4'"),
        ({**NEW, "interfaces": []}, "1.0.0", "no interfaces"),
        ({**NEW, "ips": []}, "1.0.0", "no ips"),
        ({**NEW, "ips": [{"address": "10.213.0.2"}]}, "1.0.0", "ips[0].address is no address with a prefix length"),
        ({**NEW, "ips": [{"address": POD, "interface": 2}]}, "1.0.0", "ips[0].interface is 2, and there are 2"),
        ({**NEW, "routes": [{"dst": "nowhere"}]}, "1.0.0", "routes[0].dst is no network"),
        ({**NEW, "interfaces": [{"mac": ""}, NEW["interfaces"][1]]}, "1.0.0", "interfaces[0] has no name"),
        ({"cniVersion": "0.1.0", "dns": {}}, "0.1.0", "neither ip4 nor ip6"),
    ],
)
def test_a_result_of_another_shape_is_wrong(result, version, problem):
    assert problem in judge.result(answer(result), version)


def test_a_result_with_a_log_line_before_it_is_wrong():
    assert judge.result(answer(b"adding pod\n" + json.dumps(NEW).encode()), "1.0.0") != []


@pytest.mark.parametrize(
    ("refused", "codes", "problem"),
    [
        (answer(ERROR), (4,), "it was not refused"),
        (answer(b"", 1), (4,), "no error object on stdout"),
        (answer(b"panic: oh", 2), (), "no error object on stdout"),
        (answer({**ERROR, "code": 7}, 1), (4,), "code 7"),
        (answer({**ERROR, "code": "4"}, 1), (4,), "code is '4'"),
        (answer({**ERROR, "code": 42}, 1), (), "code 42 is reserved"),
        (answer({**ERROR, "msg": ""}, 1), (4,), "no msg"),
        (Answer(exit_code=None, stdout=b""), (), "no answer in time"),
    ],
)
def test_a_refusal_without_the_error_object_expected_is_wrong(refused, codes, problem):
    [found] = judge.refusal(refused, codes)
    assert found.startswith(problem)


def test_a_refusal_names_what_it_refuses():
    refused = answer(ERROR, 1)
    assert judge.refusal(refused, (4,), names=("CNI_IFNAME",)) == []
    [found] = judge.refusal(refused, (4,), names=("CNI_IFNAME", "CNI_NETNS"))
    assert found.startswith("CNI_NETNS is not named")


@pytest.mark.parametrize("code", [1, 8, 11, 50, 100, 999])
def test_codes_of_the_specification_and_from_100_on_are_free_to_use(code):
    assert judge.refusal(answer({**ERROR, "code": code}, 1)) == []


def test_output_where_none_belongs_is_wrong():
    assert judge.silence(answer(b"\n")) == []
    assert judge.silence(answer(NEW)) != []


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"cniVersion": "1.0.0", "supportedVersions": []},
        {"supportedVersions": ["1.0.0"]},
        {"cniVersion": "1.0.0", "supportedVersions": ["one"]},
    ],
)
def test_a_version_report_needs_versions(report):
    assert judge.version_report(answer(report)) != []


def test_versions_the_kit_does_not_know_are_not_asked_for():
    report = answer({"cniVersion": "1.0.0", "supportedVersions": ["7.0.0", "1.0.0", "0.4.0"]})
    assert judge.advertised(report) == ("0.4.0", "1.0.0")


def test_what_came_and_what_went_is_told_apart():
    told = judge.unchanged(frozenset({"link lo", "link eth0"}), frozenset({"link lo", "link eth1"}), "the pod")
    assert told == ["the pod lost link eth0", "the pod got link eth1"]


def test_an_address_given_twice_is_named():
    once, twice = shapes.addresses(NEW), shapes.addresses({"ip4": {"ip": "10.213.0.3/24"}})
    assert judge.distinct([*once, *twice, *twice]) == ["10.213.0.3/24 was given twice"]


def test_a_route_without_gateway_takes_that_of_the_address():
    assert [route.gateway for route in shapes.routes(NEW)] == ["10.213.0.1"]


def test_the_pool_of_a_foreign_ipam_is_left_alone():
    with pytest.raises(NotApplicable):
        confs.with_addresses({"ipam": {"type": "dhcp"}}, 1)


def test_each_check_of_a_network_has_its_own_state():
    conf = confs.of_check(confs.default("bridge"), name="one", version="1.0.0", state="/tmp/one")
    assert (conf["name"], conf["dataDir"], conf["ipam"]["dataDir"]) == ("one", "/tmp/one", "/tmp/one")


def finding(verdict: Verdict) -> Finding:
    return Finding(id="a.b", clause="§2", done="ADD", expected="success", seen="exit 0", verdict=verdict)


@pytest.mark.parametrize(("verdict", "conforms"), [("pass", True), ("skipped", True), ("fail", False)])
def test_a_plugin_conforms_when_nothing_failed(verdict, conforms):
    card = Scorecard(plugin="p", versions=("1.0.0",), conf={}, findings=(finding(Verdict(verdict)),))
    assert card.is_conforming is conforms
    assert card.to_dict()["counts"][verdict] == 1
