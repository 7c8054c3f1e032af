"""The settings by their dotted names, as the pages spell them."""

from typing import Any

from pydantic import BaseModel, SecretStr

from broadcastd.settings import AccountSettings, Settings


def default_of(path: str) -> Any:
    """What `ledger.keep_days` is when nobody sets it; fails for a key that there is not."""
    first, *rest = path.split(".")
    model: type[BaseModel] = Settings
    if first == "accounts":
        model, (_name, first, *rest) = AccountSettings, rest
    for name in rest:
        kind = model.model_fields[first].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        model, first = kind, name
    default = model.model_fields[first].default
    return default.get_secret_value() if isinstance(default, SecretStr) else default
