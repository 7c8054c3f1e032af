"""Where access tokens come from, each with its `TokenSource`, for the contract tests."""

from bed.fakes import FakeTokens
from bed.mariadb import PASSWORD
from bed.platform import APP_ID, APP_SECRET
from broadcastd.settings import AccountSettings
from broadcastd.token_sources import TOKEN_SOURCES


class CountedDatabase:
    """A database that counts how often it is asked."""

    def __init__(self, database):
        self._database = database
        self.queries = 0

    def connection(self):
        self.queries += 1
        return self._database.connection()


class Origin:
    """Where the tokens come from. `renew`: a new one is there; `break_down`, `mend`; `asked` counts."""

    def __init__(self, clock):
        self.clock = clock

    def until_due(self):
        """Let the longest pause pass."""
        self.clock.advance(601)


class TableOrigin(Origin):
    secrets = (PASSWORD, "SELECT")

    def __init__(self, run, parts):
        super().__init__(parts.clock)
        self._run = run
        self.number = 1
        self.database = parts.database
        self.tokens = TOKEN_SOURCES["table"](parts)
        self.mend()

    @property
    def asked(self):
        return self.database.queries

    def renew(self):
        self.number += 1
        self.mend()

    def mend(self):
        self._run(f"UPDATE tp_accesstoken SET accesstoken = 'table-token-{self.number}'")

    def break_down(self):
        self._run("UPDATE tp_accesstoken SET accesstoken = ''")


class ApiOrigin(Origin):
    secrets = (APP_SECRET,)

    def __init__(self, platform, parts):
        super().__init__(parts.clock)
        self.platform = platform
        self.tokens = TOKEN_SOURCES["api"](parts)

    @property
    def asked(self):
        return self.platform.asked

    def renew(self):
        self.platform.expire()

    def mend(self):
        self.platform.refuses_token = 0

    def break_down(self):
        self.platform.refuses_token = 40125


class FakeOrigin(Origin):
    """The fake has a new one after every discard."""

    secrets = ()

    def __init__(self, clock):
        super().__init__(clock)
        self.tokens = FakeTokens()

    @property
    def asked(self):
        return self.tokens.number

    def renew(self):
        pass

    def mend(self):
        self.tokens.unavailable = ""

    def break_down(self):
        self.tokens.unavailable = "none today"


def settings(url, api_base="http://127.0.0.1:1"):
    return AccountSettings.model_validate(
        {"audience": {"url": url}, "channels": ["custom"], "api_base": api_base, "app_id": APP_ID,
         "app_secret": APP_SECRET}
    )  # fmt: skip
