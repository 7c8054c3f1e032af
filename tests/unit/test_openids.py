from bed.fakes import a_job

from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.delivery.openids import Openids
from broadcastd.errors import AudienceUnavailableError
from broadcastd.model import Listed
from broadcastd.outcomes import Outcome

BLOCK = [Listed(1, "o-one", Outcome.SENT), Listed(2, None, Outcome.UNKNOWN), Listed(3), Listed(9)]


class Away(InlineAudience):
    """A database that is away."""

    asked = 0

    async def pull(self, now, first, last):
        self.asked += 1
        raise AudienceUnavailableError


def openids(block):
    return [one.openid for one in block]


async def test_what_the_ledger_does_not_know_is_asked_of_the_database():
    audience = InlineAudience(["o-other", "o-two", "o-three"])
    filled = await Openids(audience, a_job()).filled(BLOCK)
    assert openids(filled) == ["o-one", "o-two", "o-three", None]
    assert [one.outcome for one in filled] == [one.outcome for one in BLOCK]


async def test_a_database_that_is_away_is_asked_once():
    audience = Away([])
    names = Openids(audience, a_job())
    for _ in range(3):
        assert await names.filled(BLOCK) == BLOCK
    assert audience.asked == 1


async def test_without_an_account_they_stay_unknown():
    assert await Openids(None, a_job()).filled(BLOCK) == BLOCK
