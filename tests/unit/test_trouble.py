import socket

import pytest
import sqlalchemy as sa

from broadcastd.audiences.trouble import WORDS, in_words


class DriverError(Exception):
    """As asyncmy's: a number and a message."""


def said(code, message="(1045, 'SELECT secret')", cause=None):
    driver = DriverError(code, message)
    driver.__cause__ = cause
    error = sa.exc.DBAPIError.instance("SELECT secret", {"password": "secret"}, driver, Exception)
    return in_words(error, 60)


@pytest.mark.parametrize("code", sorted(WORDS))
def test_known_numbers_have_words_of_their_own(code):
    assert said(code) == f"the site's database {WORDS[code]} ({code})"
    assert "secret" not in said(code)


@pytest.mark.parametrize("code", [1969, 3024])
def test_the_servers_own_bound_is_the_same_as_ours(code):
    assert said(code) == "the site's database does not answer within 60 s"


def test_others_are_said_as_the_server_says_them():
    assert said(1054, "Unknown column 'x' in 'WHERE'\nmore") == (
        "the site's database says: Unknown column 'x' in 'WHERE' (1054)"
    )
    assert len(said(1064, "x" * 5000)) < 400


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 3306)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "no answer to the attempt to connect"),
        (None, "it refuses or ends the connection"),
    ],
)
def test_why_it_cannot_be_reached(cause, words):
    assert said(2003, "Can't connect to MySQL server", cause) == (
        f"the site's database cannot be reached: {words}"
    )


def test_what_is_no_answer_at_all():
    words = "the site's database answers with what is not MySQL's protocol"
    assert in_words(IndexError("index out of range"), 60).startswith(words)
    out_of_step = sa.exc.DBAPIError.instance(
        "SELECT secret", {}, DriverError("Packet sequence number wrong - got 80 expected 0"), Exception
    )
    assert in_words(out_of_step, 60).startswith(words)
