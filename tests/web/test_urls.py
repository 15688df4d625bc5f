from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockboard.domain.inventory import SORTS, VIEWS
from lockboard.domain.text import shown, spoken_span
from lockboard.web.asked import STATUSES, Asked, BadQuery, Links, asked, parsed_age, spelled_age
from lockboard.web.times import age_words
from tests.web.fakes import NOW, web

words = st.text(max_size=60).map(shown)
lists = st.builds(
    Asked,
    view=st.sampled_from(VIEWS),
    status=st.sampled_from(["", *sorted(STATUSES)]),
    backend=words,
    prefix=words,
    holder=words,
    age=st.integers(0, 36_500 * 86_400),
    text=words.map(str.strip),
    sort=st.sampled_from(SORTS),
    descending=st.booleans(),
)


def read(url: str) -> Asked:
    return asked(dict(parse_qsl(url.partition("?")[2], keep_blank_values=True)))


@given(lists)
def test_a_list_survives_its_url(wanted: Asked) -> None:
    assert read(wanted.url()) == wanted


@given(lists)
def test_a_query_survives_its_url(wanted: Asked) -> None:
    assert read(wanted.url()).query(NOW) == wanted.query(NOW)


@given(lists, words)
def test_a_link_to_a_neighbouring_list_is_that_lists_canonical_url(wanted: Asked, backend: str) -> None:
    assert Links(wanted).to(backend=backend) == wanted.but(backend=backend).url()


@given(st.builds(Asked, after=st.text("abcXYZ019-_", min_size=1), start=st.integers(1, 99_999_999)))
def test_a_cursor_and_the_number_of_its_first_row_survive_their_url(wanted: Asked) -> None:
    assert read(wanted.url()) == wanted


def test_defaults_are_left_out_of_an_address() -> None:
    assert Asked().url() == "/states"
    assert Asked(view="all", sort="key", descending=True).url() == "/states?view=all&sort=-key"
    assert Asked(age=86_400, text="a b").url() == "/states?age=1d&q=a+b"


def test_the_order_of_parameters_is_the_same_however_they_were_asked_for() -> None:
    first = asked({"q": "vpc", "view": "all", "backend": "prod"})
    second = asked({"backend": "prod", "q": "vpc", "view": "all", "sort": "severity", "status": ""})

    assert first.url() == second.url() == "/states?view=all&backend=prod&q=vpc"


@pytest.mark.parametrize(
    "parameters",
    [
        {"view": "everything"},
        {"status": "fine"},
        {"sort": "size"},
        {"sort": "--key"},
        {"age": "soon"},
        {"age": "0d"},
        {"age": "-1d"},
        {"age": "99999999d"},
        {"age": "\uff11d"},
        {"q": "x" * 1300},
    ],
)
def test_a_value_that_no_list_has_is_refused_with_those_there_are(parameters: dict[str, str]) -> None:
    with pytest.raises(BadQuery, match=r"is one of|is a whole number|is longer"):
        asked(parameters)


@given(st.integers(1, 36_500 * 86_400))
def test_a_length_of_time_survives_its_spelling(seconds: int) -> None:
    assert parsed_age(spelled_age(seconds)) == seconds


def test_control_characters_of_an_address_are_spelled_as_the_store_has_them() -> None:
    assert asked({"holder": "a\x00b\u202e"}).holder == "a\\x00b\\u202e"


@given(st.integers(0, 10**9))
def test_the_fast_spelling_of_an_age_is_the_domains(seconds: int) -> None:
    assert age_words(seconds) == spoken_span(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "query", ["after=%FF%FE", "after=zzzz", "n=abc&after=n10", "view=all&unknown=1", "q=%F0%28"]
)
def test_odd_parameters_are_no_error(query: str) -> None:
    assert web().client.get(f"/states?{query}").status_code == 200
