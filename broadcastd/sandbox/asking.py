"""What the control's handlers share: JSON in and out, numbers of a query, errors as answers."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Of a query: keeps "inf" and the like out of int(), and times of this century in.
MAX_NUMBER = float((1 << 32) - 1)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is wrong with a request, as a line of its answer."""
    try:
        return await handler(request)
    except ConnectionError:
        # The caller had enough in the middle of a stream: what is returned goes nowhere.
        return web.Response()
    except ValidationError as error:
        first = error.errors()[0]
        return as_json({"error": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}, 400)
    except ValueError as error:
        return as_json({"error": str(error)}, 400)


def as_json(value: object, status: int = 200) -> web.Response:
    """An answer."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


async def object_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a body; `ValueError` when it is none."""
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  # the caller's mistake
    return value


def number_of(request: web.Request, name: str, default: float) -> float:
    """A number of the query; `ValueError` when it is none, or out of bounds."""
    text = request.query.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1.0
    # Also false for "nan".
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{name} must be a number from 0 on, not {text}")
    return number
