"""What each errcode of the WeChat API means for us: the one place where codes live.

Source: docs/wechat-api.md, section 8 (messages after WxJava's WxOpenErrorMsgEnum and wechatpy's
constants). The action is ours. Classify by errcode only: errmsg carries a variable suffix (` rid: …`).
"""

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What the sender does about an errcode."""

    ACCEPT = "counts as accepted"
    REFRESH = "read the access token again and ask once more"
    RETRY = "ask again after a growing pause"
    FALLBACK = "next channel for this recipient"
    REJECT = "refused for good, for this recipient"
    SLOW = "pause to the next minute"
    HOLD = "hold the job for an operator"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table."""

    action: Action
    en: str
    zh: str


_TABLE: tuple[tuple[tuple[int, ...], Action, str, str], ...] = (
    ((0,), Action.ACCEPT, "ok", "成功"),
    ((-1,), Action.RETRY, "WeChat is busy", "系统繁忙"),
    ((40001,), Action.REFRESH, "access token invalid or not the latest", "access_token 无效"),
    ((40014, 42001, 41001), Action.REFRESH, "access token invalid, expired or missing", "access_token 不合法、超时或缺少"),
    ((45015,), Action.FALLBACK, "outside the 48 h customer-service window", "回复时间超过限制"),
    ((45047,), Action.FALLBACK, "customer-service messages of this window used up", "客服接口下行条数超过上限"),
    ((43101,), Action.FALLBACK, "the user refuses this kind of message", "用户拒绝接受消息"),
    ((40003,), Action.REJECT, "invalid openid (not following, or of another account)", "不合法的 OpenID"),
    ((43004,), Action.REJECT, "the user does not follow the account", "需要接收者关注"),
    ((50005, 46004, 49003), Action.REJECT, "unknown or unsubscribed user", "未关注或不存在的用户"),
    ((43019,), Action.REJECT, "the user is on the account's blacklist", "需从黑名单移除"),
    ((48002,), Action.REJECT, "the user blocks messages", "粉丝拒收消息"),
    ((45011,), Action.SLOW, "too many calls this minute", "API 调用太频繁"),
    ((45009,), Action.HOLD, "the daily quota of this API is used up", "接口调用超过限制"),
    ((45002,), Action.HOLD, "the text is too long", "消息内容超过限制"),
    ((44002, 44004, 40008, 40033, 40035, 40038, 47001, 47002, 43002, 43003), Action.HOLD,
     "WeChat cannot read the request", "请求格式错误"),
    ((40036, 40037, 48011), Action.HOLD, "the template id is wrong or disabled", "不合法的 template_id"),
    ((47003, 45012, 45013, 45014), Action.HOLD, "a template field is wrong or too long", "模板参数不准确或超限"),
    ((45051, 41030, 45082), Action.HOLD, "the link or page is not allowed", "链接、页面无效"),
    ((40249,), Action.HOLD, "the template message was blocked for its content", "模板消息被拦截"),
    ((45168, 87014), Action.HOLD, "the content is not allowed", "内容违规"),
    ((48001, 50001, 61007), Action.HOLD, "the account may not use this API", "api 功能未授权"),
    ((48004, 45087), Action.HOLD, "the API is blocked for this account", "api 接口被封禁"),
    ((40164, 61004, 45035), Action.HOLD, "this server's IP is not on the whitelist", "IP 不在白名单"),
)  # fmt: skip

MEANINGS: dict[int, Meaning] = {
    code: Meaning(action, en, zh) for codes, action, en, zh in _TABLE for code in codes
}

UNLISTED = Meaning(Action.RETRY, "an errcode that broadcastd does not know", "未知错误码")


def meaning_of(errcode: int) -> Meaning:
    """The row of `errcode`, or `UNLISTED`."""
    return MEANINGS.get(errcode, UNLISTED)


def in_words(errcode: int) -> str:
    """For logs, pages and replies: `45015 outside the 48 h customer-service window`."""
    return f"{errcode} {meaning_of(errcode).en}"
