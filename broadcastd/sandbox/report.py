"""The record, in the words of the control."""

from typing import Any

from broadcastd.sandbox.calls import FIRST_MSGID, Entry
from broadcastd.sandbox.endpoints import SENDS
from broadcastd.sandbox.wechat import WeChat


def summarize(wechat: WeChat) -> dict[str, Any]:
    """Totals since the start or the last reset."""
    record, deliveries = wechat.calls, wechat.calls.deliveries
    by_endpoint: dict[str, dict[str, int]] = {}
    for (endpoint, label), count in sorted(record.counts.items()):
        by_endpoint.setdefault(endpoint, {})[label] = count
    return {
        "calls": len(record),
        "sends": sum(sum(by_endpoint.get(endpoint, {}).values()) for endpoint in SENDS),
        "by_endpoint": by_endpoint,
        "delivered": deliveries.total,
        "delivered_by_channel": {channel: record.delivered.get(channel, 0) for channel in SENDS},
        "followers_reached": deliveries.reached,
        "followers_repeated": deliveries.repeated,
        "first_repeated": [
            {"openid": wechat.followers.name(row), "count": deliveries.count(row)}
            for row in deliveries.first_repeated
        ],
        "client_msg_id_repeats": record.repeats,
        "first_at": record.at(0) if len(record) else None,
        "last_at": record.at(len(record) - 1) if len(record) else None,
    }


def describe_call(wechat: WeChat, number: int) -> dict[str, Any]:
    """One call. `errcode` is null when an outage struck before the call was looked at."""
    entry = wechat.calls.entry(number)
    return {
        "number": number,
        "at": entry.at,
        "answered_at": entry.answered_at or None,
        "endpoint": entry.endpoint,
        "openid": wechat.followers.name(entry.row) if entry.row >= 0 else "",
        "errcode": entry.errcode if entry.processed else None,
        "outage": entry.outage,
        "token_ok": entry.token_ok,
        "delivered": entry.delivered,
        "repeat": entry.repeat,
        "msgid": FIRST_MSGID + number if _has_msgid(entry) else None,
        "client_msg_id": entry.client_msg_id,
        "text": entry.text,
        "reached": len(entry.rows) or int(entry.delivered),
    }


def _has_msgid(entry: Entry) -> bool:
    accepted = entry.processed and entry.errcode == 0 and not entry.repeat
    return accepted and entry.endpoint in ("template", "subscribe")
