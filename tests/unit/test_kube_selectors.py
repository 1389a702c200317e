import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.selectors import InvalidSelector, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "empty": "", "weight": "7", "k8s.io/name": "x"}

CHOSEN = [
    "",
    "   ",
    "app",
    "app=web",
    "app==web",
    "app = web",
    "app=web,tier=front",
    " app = web , tier = front ",
    "!absent",
    "! absent",
    "app!=db",
    "absent!=web",
    "app in (web,db)",
    "app in ( web , db )",
    "app in(web)",
    "app notin (db)",
    "absent notin (web)",
    "empty=",
    "empty==,app",
    "empty in (,x)",
    "empty",
    "weight>6",
    "weight < 8",
    "k8s.io/name=x",
    "!service.kubernetes.io/headless",
]
REFUSED = [
    "absent",
    "app=db",
    "!app",
    "!empty",
    "app!=web",
    "app in (db)",
    "absent in (web)",
    "app notin (web,db)",
    "absent=",
    "app=web,tier=back",
    "weight>7",
    "weight<7",
    "app>1",
    "absent<1",
]
BROKEN = [
    ",",
    "app,",
    "app=web,,tier",
    "=web",
    "app=web tier=front",
    "app in web",
    "app in (web",
    "app in web)",
    "app in",
    "app !",
    "app ! = web",
    "!app=web",
    "a&b",
    "-app",
    "app=we/b",
    "app>many",
    "app>",
    "x/y/z",
    "/x",
    "UPPER/x",
    "a" * 64,
    "a=" + "b" * 64,
    "p" * 254 + "/x",
    "app=(web)",
    "app!in(web)",
]


@pytest.mark.parametrize("text", CHOSEN)
def test_label_selector_chooses(text):
    assert parse_labels(text).matches(LABELS)


@pytest.mark.parametrize("text", REFUSED)
def test_label_selector_does_not_choose(text):
    assert not parse_labels(text).matches(LABELS)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_label_selector_says_what_is_wrong(text):
    with pytest.raises(InvalidSelector) as error:
        parse_labels(text)
    assert repr(text) in str(error.value)


def test_in_and_notin_can_be_keys():
    assert parse_labels("in in (in),notin!=notin").matches({"in": "in"})


@pytest.mark.parametrize("text", [*CHOSEN, *REFUSED])
def test_a_label_selector_reads_back_what_it_writes(text):
    selector = parse_labels(text)
    assert parse_labels(str(selector)) == selector


@given(st.text(alphabet="ab=!(),<> in\t\\/.-é", max_size=20))
def test_no_text_crashes_the_label_parser(text):
    try:
        parsed = parse_labels(text)
    except InvalidSelector:
        return
    assert parse_labels(str(parsed)) == parsed


# --- fields

SELECTABLE = {"metadata.name": "web", "spec.clusterIP": "None", "odd": r"a,b=c\d"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name!=web", False),
        ("spec.clusterIP!=None", False),
        ("spec.clusterIP=None,metadata.name=web", True),
        ("spec.clusterIP=None,metadata.name=db", False),
        ("absent=", True),
        ("absent!=x", True),
        (r"odd=a\,b\=c\\d", True),
        ("metadata.name=web,", True),
    ],
)
def test_field_selector(text, chosen):
    assert parse_fields(text).matches(SELECTABLE) is chosen


@pytest.mark.parametrize("text", ["metadata.name", "=web", "a=b=c", "a\\", r"a=\x", "!a", "a!b", r"\ =x", "a b=c"])
def test_a_broken_field_selector_says_what_is_wrong(text):
    with pytest.raises(InvalidSelector) as error:
        parse_fields(text)
    assert repr(text) in str(error.value)


def test_a_field_selector_names_its_fields():
    assert parse_fields("spec.clusterIP!=None,metadata.name=x").fields == {"spec.clusterIP", "metadata.name"}


@given(st.dictionaries(st.sampled_from(["metadata.name", "spec.nodeName"]), st.text(max_size=12), min_size=1))
def test_any_value_survives_its_escapes(values):
    escapes = str.maketrans({"\\": r"\\", ",": r"\,", "=": r"\="})
    text = ",".join(f"{field}={value.translate(escapes)}" for field, value in values.items())
    selector = parse_fields(text)
    assert selector.matches(values)
    assert parse_fields(str(selector)) == selector


@given(st.text(alphabet="ab=!,\\. ", max_size=20))
def test_no_text_crashes_the_field_parser(text):
    try:
        parsed = parse_fields(text)
    except InvalidSelector:
        return
    assert parse_fields(str(parsed)) == parsed
