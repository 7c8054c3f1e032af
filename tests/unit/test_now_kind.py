"""Which column a query compares with `:now`."""

import pytest

from broadcastd.audiences.now_kind import compared_column
from broadcastd.settings import DEFAULT_QUERY


@pytest.mark.parametrize(
    ("query", "column"),
    [
        (DEFAULT_QUERY, "expire_time"),
        ("SELECT id, openid FROM t WHERE t.until>=:now", "until"),
        ("SELECT id, openid FROM t WHERE `t`.`until` > :now AND x = 1", "until"),
        ("SELECT id, openid FROM t WHERE :now < until", "until"),
        ("SELECT id, openid FROM t WHERE :now > '2000-01-01'", None),
        ("SELECT id, openid FROM t WHERE until > now()", None),
        ("SELECT id, openid FROM t", None),
        ("SELECT id, openid FROM t WHERE a > :nowhere", None),
    ],
)
def test_the_column_beside_now(query, column):
    assert compared_column(query) == column
