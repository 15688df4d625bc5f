"""State bodies: each row of the tables is what Terraform 1.11.4 made of it (`state list -state=FILE`)."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.domain.bodies import Body, BodyKind, BodyReader, read_body
from tests.domain.strategies import many_inputs

STATE, BROKEN = BodyKind.STATE, BodyKind.BROKEN
NO_VERSION = 'it has no "version" attribute'
AT = "it is not JSON: syntax error at byte offset"
WANTED = "a whole number"
UNFIT = "a number that is negative, too large or not whole"
NO_MODE = 'a resource has a mode other than "managed" and "data"'
PROVIDER = r'"provider[\"terraform.io/builtin/a\"]"'
SYNTAX = re.compile(r"byte offset|cut short|not JSON|white space|nests")


def resource(mode: str = '"managed"', rest: str = "") -> str:
    return f'{{"mode":{mode},"type":"a_b","name":"c","provider":{PROVIDER}{rest}}}'


def v4(*resources: str) -> str:
    return f'{{"version":4,"resources":[{",".join(resources)}]}}'


ACCEPTED = [
    '{"version":4}',
    '{"version":3}',
    '{"version":2}',
    '{"version":1}',
    ' \n{"version":4}\n\t ',
    '{"VERSION":4}',
    '{"ver\u017fion":4}',
    '{"version":null,"version":4}',
    '{"version":4,"serial":18446744073709551615}',
    '{"version":4,"serial":null,"lineage":null,"resources":null,"outputs":null,"terraform_version":null}',
    '{"version":4,"lineage":"\\ud800"}',
    '{"version":4,"lineage":""}',
    '{"version":4,"terraform_version":""}',
    '{"version":4,"terraform_version":"1.99.0"}',
    '{"version":4,"terraform_version":"1.0-"}',
    '{"version":4,"terraform_version":"v1.0"}',
    '{"version":4,"terraform_version":"1.0beta1"}',
    '{"version":4,"terraform_version":"1.0.0-rc1+b.2"}',
    '{"version":4,"x":"\u00ff"}',
    '{"version":4,"remote":5,"modules":5,"backend":5}',
    '{"version":3,"resources":5,"outputs":5}',
    '{"version":1,"lineage":5,"terraform_version":5,"outputs":5,"backend":5}',
    '{"version":1,"terraform_version":"abc"}',
    v4(resource()),
    v4(resource(rest=',"instances":null')),
    v4(resource(rest=',"instances":[null]')),
    v4(resource(rest=',"mode":null')),
    v4('{"MODE":"data"}'),
    '{"version":4,"resources":[{"mode":"bad"}],"resources":[]}',
    f'{{"version":4,"x":{"[" * 9_999}{"]" * 9_999}}}',
]

REFUSED = [
    (" ", "it holds nothing but white space"),
    ("{}", NO_VERSION),
    ("null", 'it is JSON, but null and not an object with a "version"'),
    ("[]", 'it is JSON, but an array and not an object with a "version"'),
    ('"x"', 'it is JSON, but a string and not an object with a "version"'),
    ("<html>", "it is not JSON: it begins like an HTML or XML page"),
    ('\ufeff{"version":4}', "it is not JSON: it begins with a byte order mark"),
    ("tfstate", f"{AT} 2"),
    ('{"version":0}', "it is of format version 0; Terraform 1.11 reads 1 to 4"),
    ('{"version":5}', "it is of format version 5; Terraform 1.11 reads 1 to 4"),
    ('{"version":99}', "it is of format version 99; Terraform 1.11 reads 1 to 4"),
    ('{"version":18446744073709551616}', f"its version is {UNFIT}, not {WANTED}"),
    ('{"version":4.0}', f"its version is {UNFIT}, not {WANTED}"),
    ('{"version":-0}', f"its version is {UNFIT}, not {WANTED}"),
    ('{"version":"4"}', f"its version is a string, not {WANTED}"),
    ('{"version":"4","version":4}', f"its version is a string, not {WANTED}"),
    ('{"version":4,"version":null}', NO_VERSION),
    ('{"VERSION":4,"Serial":"x"}', f"its serial is a string, not {WANTED}"),
    ('{"version":4,"serial":-1}', f"its serial is {UNFIT}, not {WANTED}"),
    ('{"version":4,"serial":1.0}', f"its serial is {UNFIT}, not {WANTED}"),
    ('{"version":4,"serial":18446744073709551616}', f"its serial is {UNFIT}, not {WANTED}"),
    ('{"version":4,"lineage":5}', "its lineage is a number, not a string"),
    ('{"version":4,"terraform_version":"abc"}', "its terraform_version is not a version number"),
    ('{"version":4,"terraform_version":"1..0"}', "its terraform_version is not a version number"),
    ('{"version":4,"terraform_version":"1.0\\n"}', "its terraform_version is not a version number"),
    ('{"version":4,"terraform_version":"1.11.-"}', "its terraform_version is not a version number"),
    ('{"version":4,"terraform_version":"1.11.e5"}', "its terraform_version is not a version number"),
    ('{"version":4,"terraform_version":"1.0+"}', "its terraform_version is not a version number"),
    (
        '{"version":4,"terraform_version":"99999999999999999999.0"}',
        "its terraform_version is not a version number",
    ),
    ('{"version":4,"resources":{}}', "its resources is an object, not an array"),
    ('{"version":4,"outputs":[]}', "its outputs is an array, not an object"),
    ('{"version":4,"check_results":{}}', "its check_results is an object, not an array"),
    ('{"version":3,"serial":-1}', f"its serial is {UNFIT}, not {WANTED}"),
    (
        '{"version":3,"serial":9223372036854775808}',
        f"its serial is a whole number of 2^63 or more, not {WANTED}",
    ),
    ('{"version":3,"remote":"a"}', "its remote is a string, not an object"),
    ('{"version":2,"modules":{}}', "its modules is an object, not an array"),
    ('{"version":1,"serial":"a"}', f"its serial is a string, not {WANTED}"),
    (v4("null"), "a resource has no mode"),
    (v4("[]"), "an entry of its resources is an array"),
    ('{"version":4,"resources":[1],"resources":[]}', "an entry of its resources is a number"),
    (v4(resource('"Managed"')), NO_MODE),
    (v4(resource(rest=',"mode":"x"')), NO_MODE),
    (v4(resource("5", ',"mode":"managed"')), "a resource cannot be read: its mode is a number, not a string"),
    (v4(resource(rest=',"each":5')), "a resource cannot be read: its each is a number, not a string"),
    (v4(resource(rest=',"module":5')), "a resource cannot be read: its module is a number, not a string"),
    (v4(resource(rest=',"instances":[1]')), "an instance of a resource is a number"),
    (
        v4(resource(rest=',"instances":{}')),
        "a resource cannot be read: its instances is an object, not an array",
    ),
    ('{"version":4,"x":NaN}', f"{AT} 18"),
    ('{"version":4,"x":01}', f"{AT} 19"),
    ('{"version":4,"x":1.}', f"{AT} 20"),
    ('{"version":4,"x":truX}', f"{AT} 21"),
    ('{"version":4,}', f"{AT} 14"),
    ('{"version":4}x', "more follows after the end of its JSON, at byte offset 14"),
    ('{"version":4,"x":"\\q"}', "a bad escape stands in a string, at byte offset 20"),
    ('{"version":4,"x":"a\tb"}', "a control character stands in a string, at byte offset 20"),
    ('{"version":4', "it is cut short: it ends in the middle of its JSON, after 12 bytes"),
    (f'{{"version":4,"x":{"[" * 10_000}{"]" * 10_000}}}', "it nests deeper than 10,000 levels"),
]


@pytest.mark.parametrize("text", ACCEPTED, ids=lambda text: text[:60])
def test_a_body_that_terraform_loads_is_a_state(text: str) -> None:
    body = read_body(text.encode())
    assert (body.kind, body.problem) == (STATE, None)


@pytest.mark.parametrize(("text", "problem"), REFUSED, ids=lambda text: text[:60])
def test_a_body_that_terraform_refuses_is_broken_and_says_why(text: str, problem: str) -> None:
    body = read_body(text.encode())
    assert (body.kind, body.problem) == (BROKEN, problem)
    assert (body.serial, body.lineage, body.terraform_version, body.resources) == (None, None, None, None)


def test_no_bytes_are_an_empty_body() -> None:
    assert read_body(b"") == Body("d41d8cd98f00b204e9800998ecf8427e", 0, BodyKind.EMPTY)


def test_utf8_that_is_not_valid_is_read_as_go_reads_it() -> None:
    assert read_body(b'{"version":4,"lineage":"a\xffb"}').lineage == "a\ufffdb"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x1f\x8b\x08\x00\x00", "it is not JSON: it is compressed with gzip"),
        ("{}".encode("utf-16"), "it is not JSON: it begins with the byte order mark of UTF-16"),
    ],
)
def test_a_body_in_another_wrapping_is_named(data: bytes, problem: str) -> None:
    assert read_body(data) == Body(hashlib.md5(data).hexdigest(), len(data), BROKEN, problem)


def test_opentofus_encrypted_envelope_keeps_serial_and_lineage() -> None:
    data = b'{"serial":7,"lineage":"l","meta":{},"encrypted_data":"AA==","encryption_version":"v0"}'
    md5 = hashlib.md5(data).hexdigest()
    assert read_body(data) == Body(md5, len(data), BodyKind.ENCRYPTED, serial=7, lineage="l")


@pytest.mark.parametrize("left_out", ["encrypted_data", "encryption_version"])
def test_an_envelope_without_its_marks_is_a_body_without_a_version(left_out: str) -> None:
    envelope = {"serial": 7, "lineage": "l", "encrypted_data": "AA==", "encryption_version": "v0"}
    del envelope[left_out]
    assert read_body(json.dumps(envelope).encode()).problem == NO_VERSION


def test_all_instances_of_managed_resources_are_counted() -> None:
    three, deep = ',"instances":[{},{"deposed":"0123abcd"},null]', ',"instances":[{"a":[[[[[[[{}]]]]]]]},{}]'
    text = v4(resource(rest=three), resource('"data"', three), resource(rest=deep), resource())
    assert read_body(text.encode()).resources == 5


def test_a_second_list_of_resources_leaves_their_number_unknown() -> None:
    assert read_body(b'{"version":4,"resources":[],"resources":[]}').resources is None


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_formats_leave_the_number_of_resources_unknown(version: int) -> None:
    body = read_body(f'{{"version":{version},"serial":5,"modules":[{{"resources":{{}}}}]}}'.encode())
    assert (body.version, body.serial, body.resources) == (version, 5, None)


@pytest.mark.parametrize("digits", ["3", "1" * 5_000, "0.5", "1e999", "-0"])
def test_a_number_of_any_length_is_read_where_no_field_is_meant(digits: str) -> None:
    assert read_body(f'{{"version":4,"x":{digits}}}'.encode()).kind is STATE


def test_a_serial_of_five_thousand_digits_is_refused() -> None:
    assert read_body(b'{"version":4,"serial":' + b"1" * 5_000 + b"}").kind is BROKEN


def test_the_last_of_several_fields_counts_and_null_changes_nothing() -> None:
    body = read_body(b'{"version":4,"serial":1,"SERIAL":2,"serial":null,"lineage":"a","Lineage":"b"}')
    assert (body.serial, body.lineage) == (2, "b")


@pytest.mark.parametrize(
    ("lineage", "shown"),
    [
        (r"\ud800\u0000\u202e", r"\ud800\x00\u202e"),
        (r"\ud83d\ude00", "\U0001f600"),
        ("a" * 101, "a" * 100 + "… (1 more characters)"),
        ("a" * 1_000, "a" * 100 + "… (900 more characters)"),
        ("a" * 1_001, "a" * 100 + "… (more than 900 more characters)"),
        (r"\ud83d\ude00" * 5_000, "\U0001f600" * 100 + "… (more than 900 more characters)"),
    ],
)
def test_a_lineage_is_made_fit_to_show(lineage: str, shown: str) -> None:
    assert read_body(f'{{"version":4,"lineage":"{lineage}"}}'.encode()).lineage == shown


SECRET = "correct-horse-battery"
SAMPLE = json.dumps(
    {
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": 12,
        "lineage": "6f1f4d3e-8d5b-4d58-9df0-0a4b3b3e1d2c",
        "outputs": {"o": {"value": SECRET, "type": "string"}},
        "resources": [
            {
                "mode": "managed",
                "type": "aws_db_instance",
                "name": "main",
                "provider": 'provider["terraform.io/builtin/terraform"]',
                "instances": [
                    {
                        "schema_version": 2,
                        "attributes": {
                            "password": SECRET,
                            "tags": {"a": "\u00e9\u2028\\"},
                            "ports": [[1, -2.5e7], []],
                            "multi": True,
                            "none": None,
                        },
                        "sensitive_attributes": [],
                    },
                    {},
                ],
            }
        ],
        "check_results": None,
    },
    indent=1,
).encode()


def test_a_state_gives_its_header_facts() -> None:
    assert read_body(SAMPLE) == Body(
        hashlib.md5(SAMPLE).hexdigest(),
        len(SAMPLE),
        STATE,
        version=4,
        serial=12,
        lineage="6f1f4d3e-8d5b-4d58-9df0-0a4b3b3e1d2c",
        terraform_version="1.11.4",
        resources=2,
    )


def test_a_state_cut_short_anywhere_is_broken_and_no_value_of_it_is_quoted() -> None:
    for end in range(1, len(SAMPLE)):
        body = read_body(SAMPLE[:end])
        assert body.problem == f"it is cut short: it ends in the middle of its JSON, after {end} bytes"
        assert replace(body, problem=None) == Body(hashlib.md5(SAMPLE[:end]).hexdigest(), end, BROKEN)


def test_a_state_with_any_byte_made_wrong_is_never_quoted() -> None:
    for at in range(len(SAMPLE)):
        problem = read_body(SAMPLE[:at] + b"\x01" + SAMPLE[at + 1 :]).problem
        assert problem is not None
        assert problem.endswith(f"at byte offset {at + 1}")
        assert not set(re.findall("[a-z]{4,}", SECRET)) & set(problem.split())


@pytest.mark.parametrize("data", [SAMPLE, SAMPLE[:-40], SAMPLE[:-40] + b"]]", SAMPLE + b"x"])
def test_a_finished_reader_holds_nothing_of_the_body(data: bytes) -> None:
    reader = BodyReader(block=16)
    reader.feed(data)
    reader.finish()
    held: list[object] = [vars(reader)]
    seen: set[int] = set()
    while held:
        thing = held.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        text = bytes(thing) if isinstance(thing, bytes | bytearray) else str(thing).encode("utf-8", "replace")
        assert SECRET[:8].encode() not in text
        held.extend(gc.get_referents(thing))


def test_a_finished_reader_takes_no_more() -> None:
    reader = BodyReader()
    reader.feed(SAMPLE)
    assert reader.finish() == reader.finish()
    with pytest.raises(ValueError, match="finished"):
        reader.feed(b"x")


def is_json(data: bytes) -> bool:
    """Python's own verdict, without what it takes beyond JSON."""
    try:
        json.loads(data.decode("utf-8", "replace"), parse_constant=refuse, parse_int=str, parse_float=str)
    except ValueError:
        return False
    return True


def refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def in_pieces(data: bytes, block: int, *cuts: int) -> Body:
    reader = BodyReader(block)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        reader.feed(data[start:end])
    return reader.finish()


def check(data: bytes, seed: bytes) -> None:
    """`seed`: three bytes for the size of a block and two places to cut."""
    body = read_body(data)
    assert in_pieces(data, 16 + seed[0], *seed[1:]) == body
    assert (body.md5, body.size) == (hashlib.md5(data).hexdigest(), len(data))
    assert (body.kind is BROKEN) == (body.problem is not None)
    if data:
        assert is_json(data) == (not SYNTAX.search(body.problem or ""))


TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"1", b"-0.5e-7", b"0", b"true", b"null"]
TOKENS += [b'"a"', b'"version"', b'"resources"', b'"instances"', b'"mode"', b'"managed"']
TOKENS += [b'"', b"\\", b'"\\u00', b'41"', b"\x00", b"\xff", b"[[[[[[", b"]]]]]]", b'{"version":4,"x":']
TOKENS += [b'{"version":4,"resources":[{"mode":"managed","instances":[']


def tokens(numbers: bytes) -> bytes:
    return b"".join(TOKENS[number % len(TOKENS)] for number in numbers)


@many_inputs
def test_any_bytes_are_read_alike_however_they_are_cut_and_judged_json_as_python_does(rnd: Random) -> None:
    drawn = rnd.randbytes(rnd.randrange(18))
    check(tokens(drawn) if rnd.random() < 0.75 else drawn, rnd.randbytes(3))


SMALL = b'{"version":4,"serial":12,"lineage":"6f","resources":[{"mode":"managed","instances":[{"a":{"p":'
SMALL += b'"\\u00e9x","n":[1,-2.5e7,true,null]}},{}]}]}'


def mutated(edits: bytes) -> bytes:
    """`SMALL` with one edit for every five bytes: place, bytes taken out, up to two tokens put in."""
    data = SMALL
    for start in range(0, len(edits) - 4, 5):
        place, removed = int.from_bytes(edits[start : start + 2]) % (len(data) + 1), edits[start + 2] % 4
        data = (
            data[:place]
            + tokens(edits[start + 3 : start + 3 + edits[start + 4] % 3])
            + data[place + removed :]
        )
    return data


@many_inputs
def test_any_damaged_state_is_read_alike_however_it_is_cut_and_judged_json_as_python_does(
    rnd: Random,
) -> None:
    check(mutated(rnd.randbytes(rnd.randrange(5, 15))), rnd.randbytes(3))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


@given(JSON_VALUES, st.sampled_from([None, 1]), st.booleans(), st.integers(16, 80))
@settings(max_examples=300, deadline=None)
def test_any_json_may_stand_inside_a_state(
    value: object, indent: int | None, ascii_only: bool, block: int
) -> None:
    state = {"version": 4, "resources": [{"mode": "managed", "instances": [value, {"attributes": value}]}]}
    usable = value is None or isinstance(value, dict)
    data = json.dumps(state, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    body = in_pieces(data, block)
    assert (body.kind, body.resources) == ((STATE, 2) if usable else (BROKEN, None))


def large_state(size: int) -> Iterator[bytes]:
    """A state of about `size` bytes, a chunk for every resource."""
    tags = {f"t{number}": "value" for number in range(20)}
    attributes = {"id": "i-01234567", "tags": tags, "user_data": "x\n" * 500, "disks": [{"size": 8}] * 10}
    instances = [{"schema_version": 1, "attributes": attributes}] * 50
    text = json.dumps({"mode": "managed", "type": "a_b", "instances": instances}, indent=2).encode()
    yield b'{"version": 4, "serial": 3, "resources": [\n'
    for _ in range(size // len(text)):
        yield text + b",\n"
    yield text + b'], "lineage": "abc"}'


def strange(opening: bytes, filling: bytes, closing: bytes, size: int) -> Iterator[bytes]:
    yield opening
    for _ in range(size // (1 << 20)):
        yield filling * ((1 << 20) // len(filling))
    yield closing


MIB_48 = 48 << 20


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        (large_state(MIB_48), STATE),
        (strange(b"", b"[", b"", MIB_48), BROKEN),
        (strange(b'{"version":4,"x":"', b"a", b'"}', MIB_48), STATE),
        (strange(b'{"version":4,"lineage":"', b"\\u0041", b'"}', MIB_48), STATE),
        (strange(b'{"version":4,"', b"a", b'":1}', MIB_48), STATE),
        (strange(b'{"version":4,"serial":', b"7", b"}", MIB_48), BROKEN),
        (strange(b'{"version":4,"x":[', b"1,", b"1]}", MIB_48 // 12), STATE),
        (strange(b'{"version":4', b',"serial":1', b"}", MIB_48 // 96), STATE),
    ],
    ids=["state", "brackets", "string", "lineage", "name", "digits", "list", "duplicates"],
)
def test_memory_does_not_grow_with_the_body(chunks: Iterator[bytes], kind: BodyKind) -> None:
    reader = BodyReader()
    tracemalloc.start()
    try:
        for chunk in chunks:
            reader.feed(chunk)
        body = reader.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert body.kind is kind
    assert peak <= 8 << 20
