"""Failures of a network and whom tokens are sent to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fake_services import never
from sidestep_captioners.failures import failed, need_key, retry_after
from sidestep_captioners.http import Http, host_of, may_have_token, need_url
from sidestep_core.errors import ProviderError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "refused"),
        (401, "key"),
        (402, "quota"),
        (403, "key"),
        (404, "key"),
        (408, "unreachable"),
        (413, "too large"),
        (422, "refused"),
        (429, "rate"),
        (451, "refused"),
        (500, "unreachable"),
        (502, "unreachable"),
        (504, "unreachable"),
        (529, "unreachable"),
    ],
)
def test_a_status_has_a_kind(status, kind):
    assert failed("host", status, "", secret="").kind == kind


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"error": {"message": "No such\\n voice", "code": 3}}', "host answers 400: No such voice"),
        ('{"error": "plain"}', "host answers 400: plain"),
        ('{"detail": [{"msg": "field required"}]}', "host answers 400: field required"),
        ('{"message": "here"}', "host answers 400: here"),
        ('[{"error": {"message": "in a list"}}]', "host answers 400: in a list"),
        ("<html><head><title>x</title></head><body><h1>Bad</h1> gate</body></html>", "host answers 400: Bad gate"),
        ("", "host answers 400"),
        ("{}", "host answers 400"),
        ("3", "host answers 400"),
    ],
)
def test_the_services_own_words_are_shown_in_one_line(body, shown):
    assert str(failed("host", 400, body, secret="")) == shown


def test_long_words_are_cut():
    assert len(str(failed("host", 400, "x" * 5000, secret=""))) < 250


def test_a_secret_is_hidden_wherever_it_stands():
    error = failed("host", 401, '{"error": "Incorrect key sk-5e4d, try not sk-5e4d"}', secret="sk-5e4d")
    assert str(error) == "host answers 401: Incorrect key ***, try not ***"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_what_a_service_asks_to_wait(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_to_wait_for_is_seconds_from_now():
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < (retry_after({"Retry-After": date}) or 0) <= 3600


def test_only_failures_that_pass_say_how_long_to_wait():
    assert failed("host", 401, "", {"Retry-After": "9"}, secret="").retry_after is None
    assert failed("host", 503, "", {"Retry-After": "9"}, secret="").retry_after == 9


@pytest.mark.parametrize(
    "url",
    [
        "https://hf.space",
        "https://nvidia-music-flamingo.hf.space",
        "https://huggingface.co/spaces/a/b",
        "https://api.huggingface.co",
        "https://abc123.us-east-1.aws.endpoints.huggingface.cloud",
        "https://ABC.Endpoints.HuggingFace.Cloud.:443/x",
    ],
)
def test_hugging_faces_own_hosts_may_have_its_token(url):
    assert may_have_token(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evilhf.space",
        "https://hf.space.evil.com",
        "https://huggingface.co.evil.com",
        "https://nothuggingface.co",
        "https://huggingface.cloud",
        "https://evil.com/hf.space",
        "https://evil.com?x=.hf.space",
        "https://a.hf.space@evil.com",
        "https://evil.com#.hf.space",
        "http://a.hf.space",
        "http://127.0.0.1:8000",
        "http://localhost",
        "hf.space",
        "",
    ],
)
def test_nobody_else_may(url):
    assert not may_have_token(url)


@pytest.mark.parametrize(("url", "clean"), [("http://a:1/", "http://a:1"), (" https://a/b// ", "https://a/b")])
def test_an_address_loses_what_is_around_it(url, clean):
    assert need_url(url, "--url") == clean


def test_the_password_in_an_address_is_not_shown():
    assert host_of("http://user:pass@host:80/x") == "host:80"


@pytest.mark.parametrize("key", [None, "", " ", "é", "a b", "a\nb", "a\x00"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ProviderError) as caught:
        need_key(key, "set X")
    assert caught.value.kind == "key"


def test_a_key_loses_what_is_around_it():
    assert need_key("\t abc \r\n", "set X") == "abc"


def test_going_round_in_circles_ends(serve):
    server = serve("")
    server.plan(status=302, headers={"Location": "/again"}, times=50)
    with pytest.raises(ProviderError) as caught:
        Http(timeout=5).ask("GET", server.url, cancelled=never, follow=True)
    assert caught.value.kind == "unreachable"


def test_an_answer_that_is_packed_wrongly_is_unreachable(serve):
    server = serve("")
    server.plan("not packed", headers={"Content-Encoding": "gzip"})
    with pytest.raises(ProviderError) as caught:
        Http(timeout=5).ask("GET", server.url, cancelled=never)
    assert caught.value.kind == "unreachable"


def test_names_that_are_not_ascii_arrive_in_a_form(serve):
    server = serve("")
    Http(timeout=5).ask("POST", server.url, cancelled=never, data={"title": "日本 🎵 é"}, files={"f": ("a", b"x")})
    assert server.asked[0].form()["title"] == "日本 🎵 é"
