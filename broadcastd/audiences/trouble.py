"""What is wrong with the site's database, in plain words: for `waits_for`, `info` and the log.

Never the driver's own tuples, never the statement or its parameters.
"""

import os

import sqlalchemy as sa

from broadcastd.database_tls import trouble

DATABASE = "the site's database"

# https://mariadb.com/kb/en/mariadb-error-code-reference/ and
# https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
WORDS = {
    1040: "has too many connections",
    1045: "refuses the password",
    1053: "is shutting down",
    1129: "has blocked this machine after too many failed connections",
    1130: "does not let this machine connect",
    1203: "has too many connections of this user",
    1205: "waited too long for a lock",
    1226: "lets this user do no more for now",
    1317: "broke off the query",
    1698: "refuses the password",
    1820: "wants a new password",
    1862: "wants a new password",
    1927: "cut the connection",
    2006: "cut the connection",
    2013: "cut the connection",
    2014: "cut the connection",
    2055: "cut the connection",
    3118: "has locked this user's account",
    4031: "cut the connection",
    4151: "has locked this user's account",
}
OUT_OF_TIME = (1969, 3024)
"""The server's own bound on a query's time, MariaDB's and MySQL's; `engine` sets it."""
CANNOT_CONNECT = 2003
OUT_OF_STEP = "Packet sequence number wrong"
"""How the driver's own message begins when it was sent something else than an answer."""
LONGEST = 300
"""Characters of a server's own message that are passed on."""


def out_of_time(timeout_s: float) -> str:
    """A query did not end in time."""
    return f"{DATABASE} does not answer within {timeout_s:g} s"


def in_words(error: Exception, timeout_s: float) -> str:
    """What `error` says of the database. `timeout_s`: a query's bound."""
    cause = (error.orig if isinstance(error, sa.exc.DBAPIError) else None) or error
    code, message = _code_and_message(cause)
    if of_tls := trouble(cause):
        return f"{DATABASE} cannot be reached: {of_tls}"
    if not isinstance(error, sa.exc.SQLAlchemyError | OSError) or message.startswith(OUT_OF_STEP):
        return f"{DATABASE} answers with what is not MySQL's protocol ({type(cause).__name__})"
    if code in OUT_OF_TIME:
        return out_of_time(timeout_s)
    if code == CANNOT_CONNECT or isinstance(cause, OSError):
        return f"{DATABASE} cannot be reached: {_of_the_network(cause)}"
    if code in WORDS:
        return f"{DATABASE} {WORDS[code]} ({code})"
    return f"{DATABASE} says: {message}" + (f" ({code})" if code else "")


def _code_and_message(cause: BaseException) -> tuple[int, str]:
    match cause.args:
        case (int(code), message, *_):
            pass
        case _:
            code, message = 0, cause
    lines = str(message).splitlines()
    return code, lines[0][:LONGEST] if lines else type(cause).__name__


def _of_the_network(error: BaseException | None) -> str:
    """The system's own word for it, wherever in the chain of causes it stands."""
    while error is not None:
        if isinstance(error, TimeoutError) and error.errno is None:
            return "no answer to the attempt to connect"
        if isinstance(error, OSError) and error.errno is not None:
            # Names that are not found have numbers of their own, below zero.
            return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
        error = error.__cause__
    return "it refuses or ends the connection"
