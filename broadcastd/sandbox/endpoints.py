"""The imitated endpoints as a table: path, name, and what is asked of every call. One row each."""

from dataclasses import dataclass

# Whoever follows a redirect of the sandbox is recorded under this path.
REDIRECTED = "/redirected"
# Reference, section 5: quota/get names a rate of so many calls a minute for template/send.
_TEMPLATE_PER_MINUTE = 4_200_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row.

    `escapes_errcode`: what `\\uXXXX` in a body is answered (reference, section 0: either code, so one
    each). `daily` and `per_minute`: the limits (0: none that is documented). `over_errcode`: what is
    answered beyond the daily one.
    """

    path: str
    name: str
    is_post: bool = True
    takes_token: bool = True
    escapes_errcode: int = 47002
    daily: int = 0
    per_minute: int = 0
    over_errcode: int = 45009


# Quotas: reference, sections 1, 2, 4, 5 and 7. Those of subscribe/bizsend and of the questions are not
# documented.
_TABLE = (
    Endpoint("/cgi-bin/token", "token", is_post=False, takes_token=False, daily=2000),
    Endpoint("/cgi-bin/stable_token", "stable_token", takes_token=False, daily=500_000, per_minute=10_000),
    Endpoint("/cgi-bin/message/custom/send", "custom", escapes_errcode=40033, daily=500_000),
    Endpoint("/cgi-bin/message/template/send", "template", daily=100_000, per_minute=_TEMPLATE_PER_MINUTE),
    Endpoint("/cgi-bin/message/subscribe/bizsend", "subscribe"),
    Endpoint("/cgi-bin/message/mass/send", "mass", daily=100, per_minute=60, over_errcode=45028),
    Endpoint("/cgi-bin/message/mass/get", "mass_get"),
    Endpoint("/cgi-bin/user/get", "user_get", is_post=False, daily=500),
    Endpoint("/cgi-bin/openapi/quota/get", "quota_get"),
    Endpoint("/cgi-bin/clear_quota", "clear_quota"),
    Endpoint("/cgi-bin/clear_quota/v2", "clear_quota_v2", takes_token=False),
    Endpoint("/cgi-bin/get_api_domain_ip", "api_domain_ip", is_post=False),
    Endpoint("/cgi-bin/getcallbackip", "callback_ip", is_post=False),
)

BY_PATH = {endpoint.path: endpoint for endpoint in _TABLE}
BY_NAME = {endpoint.name: endpoint for endpoint in _TABLE}
# The calls that bring something to followers: the channels of an account.
SENDS = ("custom", "template", "subscribe", "mass")
# As they are counted: a path that is none of the table is "unknown".
NAMES = (*BY_NAME, "redirected", "unknown")


def name_of(path: str) -> str:
    """How a call of this path is counted."""
    endpoint = BY_PATH.get(path)
    if endpoint is not None:
        return endpoint.name
    return "redirected" if path.startswith(REDIRECTED + "/") else "unknown"


def named(name_or_path: str) -> Endpoint:
    """The endpoint of a name or a path; `ValueError` says which there are."""
    endpoint = BY_NAME.get(name_or_path) or BY_PATH.get(name_or_path)
    if endpoint is None:
        raise ValueError(f"no endpoint is called {name_or_path}; there are {', '.join(BY_NAME)}")
    return endpoint
