"""The settings by their dotted names, as the pages spell them."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr

from broadcastd.settings import Settings


def default_of(path: str) -> Any:
    """What `ledger.keep_days` is when nobody sets it; fails for a key that there is not.

    `accounts.NAME.window` too; of a table of named sections itself, `server.tokens.NAME`, it is None.
    """
    model: type[BaseModel] = Settings
    *sections, last = path.split(".")
    while sections:
        kind = model.model_fields[sections.pop(0)].annotation
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            if not sections:
                return None
            sections.pop(0)
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        model = kind
    default = model.model_fields[last].default
    return default.get_secret_value() if isinstance(default, SecretStr) else default
