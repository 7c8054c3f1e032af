"""What is valid in the settings and still worth a word: for `config check` and `doctor`."""

from broadcastd.keywords import fitted, hidden
from broadcastd.settings import AccountSettings, KeywordSettings, Settings
from broadcastd.texts import fill, has_placeholder

PLACEHOLDER = "@db.example.com"
"""In the address of the audience, as `config init` writes it."""


def untouched(settings: Settings) -> list[str]:
    """The keys that nobody has filled in yet: they are as `config init` wrote them."""
    return [
        f"accounts.{name}.{key}" for name, account in settings.accounts.items() for key in _untouched(account)
    ]


def cautions(settings: Settings) -> list[str]:
    """What WeChat will change or not show in any message of these settings, each with its key."""
    return [
        f"accounts.{name}.{what}"
        for name, account in settings.accounts.items()
        for what in _cautions(account)
    ]


def _untouched(account: AccountSettings) -> list[str]:
    found = []
    if PLACEHOLDER in account.audience.url.get_secret_value():
        found.append("audience.url")
    if account.template.template_id.startswith("REPLACE-"):
        found.append("template.template_id")
    return found


def _cautions(account: AccountSettings) -> list[str]:
    templates: dict[str, KeywordSettings] = {"template": account.template}
    templates |= {f"templates.{name}": one for name, one in account.templates.items()}
    subscriptions: dict[str, KeywordSettings] = {"subscribe": account.subscribe}
    subscriptions |= {f"subscriptions.{name}": one for name, one in account.subscriptions.items()}
    warnings = []
    for section, one in (templates | subscriptions).items():
        for keyword, text in one.data.items():
            fixed = "" if has_placeholder(text) else fill(text, {})
            found = fitted(keyword, fixed)[1] if fixed else []
            if section in templates:
                found.append(hidden(keyword, fixed))
            warnings += [f"{section}.data.{keyword}: {what}" for what in found if what]
    if "mass" in account.channels:
        warnings.append("channels: each mass message takes one of the 4 that a follower may get in a month")
    return warnings
