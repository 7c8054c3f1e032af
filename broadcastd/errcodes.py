"""What each errcode of the WeChat API means for us: the one place where codes live.

Source: docs/wechat-api.md, section 8 (messages after WxJava's WxOpenErrorMsgEnum and wechatpy's
constants). The action is ours. Classify by errcode only: errmsg carries a variable suffix (` rid: …`).
"""

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What the sender does about an errcode."""

    ACCEPT = "counts as accepted"
    REFRESH = "get a new access token and ask once more"
    RETRY = "ask again after a growing pause"
    MINUTE = "ask this recipient again in a minute; a repeat of a call in doubt counts as accepted"
    FALLBACK = "next channel for this recipient"
    REJECT = "refused for good, for this recipient"
    SLOW = "this channel pauses to the next minute"
    QUOTA = "hold this channel until its quota is back"
    HOLD_CHANNEL = "hold this channel for an operator; jobs go on by their next channel, else they are held"
    HOLD_ACCOUNT = "hold the account's jobs for an operator; try again now and then"
    STOP = "hold the job for an operator"
    REBUILD = "the list of this call is wrong: make another"


class Note(Enum):
    """What an errcode says of a follower beyond this message."""

    CLOSED = "outside the customer-service window"
    GONE = "does not follow, or wants no messages"
    NO_CONSENT = "has not agreed to subscription messages"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table."""

    action: Action
    en: str
    zh: str
    note: Note | None = None
    pause_s: float | None = None
    """Of a hold: how long until it is worth another try; None: as the action has it."""
    hold_after: int | None = None
    """So many different recipients in a row with it are the account's trouble, not theirs."""
    by_our_calls: bool = False
    """Our own last call may be what brought it about: one in doubt has then arrived."""


WRONG_ACCOUNT_AFTER = 100
"""40003 in a row: openids of another account. Fewer are a stale table's."""

USER_LIMITED_AFTER = 3
"""50002 in a row (docs/wechat-api.md, section 8)."""

UNLISTED_AFTER = 20
"""Recipients with the same errcode that the table does not know."""

_HOUR_S = 3600.0

_TABLE: tuple[tuple[tuple[int, ...], Meaning], ...] = (
    ((0,), Meaning(Action.ACCEPT, "ok", "成功")),
    ((-1,), Meaning(Action.RETRY, "WeChat is busy", "系统繁忙，稍候再试")),
    # -- the access token
    ((40001,), Meaning(Action.REFRESH, "access token invalid or not the latest", "access_token 无效或不是最新的")),
    ((40014,), Meaning(Action.REFRESH, "access token invalid", "不合法的 access_token")),
    ((42001,), Meaning(Action.REFRESH, "access token expired", "access_token 超时")),
    ((41001,), Meaning(Action.REFRESH, "access token missing", "缺少 access_token 参数")),
    # -- the account's credentials and rights
    ((40002,), Meaning(Action.HOLD_ACCOUNT, "wrong kind of credential", "不合法的凭证类型")),
    ((40013,), Meaning(Action.HOLD_ACCOUNT, "the app id is wrong", "不合法的 AppID")),
    ((40125,), Meaning(Action.HOLD_ACCOUNT, "the app secret is wrong", "无效的 AppSecret")),
    ((41002,), Meaning(Action.HOLD_ACCOUNT, "the app id is missing", "缺少 AppID 参数")),
    ((41004,), Meaning(Action.HOLD_ACCOUNT, "the app secret is missing", "缺少 AppSecret 参数")),
    ((40164, 61004, 45035), Meaning(
        Action.HOLD_ACCOUNT, "this server's IP is not on the account's whitelist", "调用接口的 IP 不在白名单")),
    ((40243,), Meaning(Action.HOLD_ACCOUNT, "the app secret is frozen", "AppSecret 已被冻结")),
    ((89501, 89502, 89503, 89504, 89505), Meaning(
        Action.HOLD_ACCOUNT, "an administrator must confirm this server's IP", "此 IP 调用需要管理员确认")),
    ((89507,), Meaning(
        Action.HOLD_ACCOUNT, "an administrator refused this server's IP, for an hour", "管理员拒绝此 IP，1 小时后再试",
        pause_s=_HOUR_S)),
    ((89506,), Meaning(
        Action.HOLD_ACCOUNT, "an administrator refused this server's IP, for a day", "管理员拒绝此 IP，24 小时后再试",
        pause_s=24 * _HOUR_S)),
    ((48004,), Meaning(
        Action.HOLD_ACCOUNT, "the API is blocked for this account's irregularities", "api 接口被封禁，请登录公众平台查看")),
    ((45087,), Meaning(
        Action.HOLD_ACCOUNT, "customer-service messages of this account are blocked", "该帐号的客服消息已被封禁")),
    ((48001,), Meaning(Action.HOLD_CHANNEL, "the account may not use this API", "api 功能未授权")),
    ((50001,), Meaning(Action.HOLD_CHANNEL, "the user has not authorized this API", "用户未授权该 api")),
    ((61007,), Meaning(Action.HOLD_CHANNEL, "the API is not authorized to this component", "api 未授权给第三方平台")),
    ((48003,), Meaning(Action.HOLD_CHANNEL, "the mass-send agreement is not accepted", "未同意群发协议")),
    ((48008,), Meaning(Action.HOLD_CHANNEL, "no permission for this type of message", "没有该类型消息的发送权限")),
    # -- the recipient
    ((40003,), Meaning(
        Action.REJECT, "invalid openid (not following, or of another account)", "不合法的 OpenID（未关注或属其他号）",
        hold_after=WRONG_ACCOUNT_AFTER)),
    ((43004,), Meaning(Action.REJECT, "the user does not follow the account", "需要接收者关注", Note.GONE)),
    ((50005,), Meaning(Action.REJECT, "the user has unsubscribed", "用户未关注公众号", Note.GONE)),
    ((46004,), Meaning(Action.REJECT, "no such user", "不存在的用户")),
    ((49003,), Meaning(Action.REJECT, "the openid is not of this account", "传入的 openid 不属于此 AppID")),
    ((43019,), Meaning(Action.REJECT, "the user is on the account's blacklist", "需要将接收者从黑名单中移除")),
    ((48002,), Meaning(Action.REJECT, "the user blocks messages", "粉丝拒收消息", Note.GONE)),
    ((50002,), Meaning(Action.REJECT, "the user is limited", "用户受限", hold_after=USER_LIMITED_AFTER)),
    ((45015,), Meaning(
        Action.FALLBACK, "outside the 48 h customer-service window", "回复时间超过限制", Note.CLOSED)),
    ((45047,), Meaning(
        Action.FALLBACK, "customer-service messages of this window used up", "客服接口下行条数超过上限", Note.CLOSED,
        by_our_calls=True)),
    ((43101,), Meaning(Action.FALLBACK, "the user refuses this kind of message", "用户拒绝接受消息", Note.NO_CONSENT)),
    # -- how much and how fast
    ((45011,), Meaning(Action.SLOW, "too many calls this minute", "API 调用太频繁，请稍候再试")),
    ((45009,), Meaning(Action.QUOTA, "the daily quota of this API is used up", "接口调用超过限制")),
    ((45028,), Meaning(Action.HOLD_CHANNEL, "no mass-send quota is left", "没有群发配额")),
    # -- a call that was made before
    ((45065,), Meaning(Action.ACCEPT, "this mass message was accepted before", "相同 clientmsgid 已存在群发记录")),
    ((45066,), Meaning(Action.MINUTE, "the same mass message again within a minute", "相同 clientmsgid 重试速度过快，间隔 1 分钟")),
    ((40241,), Meaning(Action.MINUTE, "the same message again within 60 s", "60 秒内消息重复")),
    # -- the message and the request
    ((45067,), Meaning(Action.STOP, "the clientmsgid is too long", "clientmsgid 长度超过限制")),
    ((45002,), Meaning(Action.STOP, "the text is too long", "消息内容超过限制")),
    ((44002,), Meaning(Action.STOP, "the request is empty", "POST 的数据包为空")),
    ((44004,), Meaning(Action.STOP, "the text is empty", "文本消息内容为空")),
    ((40008,), Meaning(Action.STOP, "wrong type of message", "不合法的消息类型")),
    ((40033,), Meaning(Action.STOP, "characters that WeChat does not take", "不合法的请求字符，不能包含 \\uxxxx 格式的字符")),
    ((40035,), Meaning(Action.STOP, "wrong parameters", "不合法的参数")),
    ((40038,), Meaning(Action.STOP, "wrong format of the request", "不合法的请求格式")),
    ((47001,), Meaning(Action.STOP, "WeChat cannot read the request", "解析 JSON/XML 内容错误")),
    ((47002,), Meaning(Action.STOP, "the request has \\u escapes", "请求不能使用 \\uxxxx 格式")),
    ((43002,), Meaning(Action.STOP, "the request must be a POST", "需要 POST 请求")),
    ((43003,), Meaning(Action.STOP, "the request must come by HTTPS", "需要 HTTPS 请求")),
    ((40036,), Meaning(Action.STOP, "the template id has a wrong length", "不合法的 template_id 长度")),
    ((40037,), Meaning(Action.STOP, "the template id is wrong", "不合法的 template_id")),
    ((48011,), Meaning(Action.STOP, "the template is disabled", "该 template_id 已被禁用")),
    ((47003,), Meaning(Action.STOP, "a template field is wrong", "模板参数不准确")),
    ((45012,), Meaning(Action.STOP, "the template is too long", "模板大小超过限制")),
    ((45013,), Meaning(Action.STOP, "the template's fields are too long", "模板参数大小超过限制")),
    ((45014,), Meaning(Action.STOP, "the template message is too long", "模板消息大小超过限制")),
    ((45051,), Meaning(Action.STOP, "the template's link is not allowed", "模板消息使用了不允许的链接")),
    ((41030,), Meaning(Action.STOP, "the page is wrong", "page 路径不正确")),
    ((45082,), Meaning(Action.STOP, "the link's domain has no ICP license", "链接域名需要 ICP 备案")),
    ((45168,), Meaning(Action.STOP, "the text has a blacklisted word", "内容含有黑名单关键词")),
    ((87014,), Meaning(Action.STOP, "the content is risky", "内容含有违法违规内容")),
    ((40249,), Meaning(
        Action.STOP, "the template message was blocked for its content", "模板消息因内容违规被拦截")),
    ((45001,), Meaning(Action.STOP, "the media is too large", "多媒体文件大小超过限制")),
    ((45007,), Meaning(Action.STOP, "the media is too long", "语音播放时间超过限制")),
    ((45008,), Meaning(Action.STOP, "the article is too long", "图文消息超过限制")),
    (tuple(range(65400, 65418)), Meaning(
        Action.STOP, "the customer-service account (kf_account) is wrong", "客服帐号不可用")),
    ((40031,), Meaning(Action.REBUILD, "an openid of the list is wrong", "不合法的 openid 列表")),
    ((40032,), Meaning(Action.REBUILD, "the list of openids has a wrong length", "不合法的 openid 列表长度")),
    ((40130,), Meaning(Action.REBUILD, "a list needs at least two openids", "至少需要两个 openid")),
    # -- of the quota's own API
    ((48006,), Meaning(Action.RETRY, "the 10 resets of this month are used up", "清零次数已用完（每月 10 次）",
        hold_after=UNLISTED_AFTER)),
    ((76021,), Meaning(Action.RETRY, "no such path to ask the quota of", "cgi_path 填错了", hold_after=UNLISTED_AFTER)),
    ((76022,), Meaning(Action.RETRY, "the wrong kind of access token for this path's quota", "当前调用接口使用的 token 与 api 所属账号不符",
        hold_after=UNLISTED_AFTER)),
    # -- of other APIs: no answer to a message, so they are treated like codes that are not known
    ((45072,), Meaning(Action.RETRY, "wrong command (typing state)", "command 字段取值不对", hold_after=UNLISTED_AFTER)),
    ((45080,), Meaning(Action.RETRY, "no message in the last 30 s (typing state)", "下发输入状态，需要之前 30 秒内跟用户有过消息交互",
        hold_after=UNLISTED_AFTER)),
    ((45081,), Meaning(Action.RETRY, "already typing (typing state)", "已经在输入状态，不可重复下发", hold_after=UNLISTED_AFTER)),
    ((87009,), Meaning(Action.RETRY, "wrong signature (session API)", "无效的签名", hold_after=UNLISTED_AFTER)),
)  # fmt: skip

MEANINGS: dict[int, Meaning] = {code: meaning for codes, meaning in _TABLE for code in codes}

UNLISTED = Meaning(
    Action.RETRY, "an errcode that broadcastd does not know", "未知错误码", hold_after=UNLISTED_AFTER
)


def meaning_of(errcode: int) -> Meaning:
    """The row of `errcode`, or `UNLISTED`."""
    return MEANINGS.get(errcode, UNLISTED)


def in_words(errcode: int) -> str:
    """For logs, pages and replies: `45009 the daily quota of this API is used up (接口调用超过限制)`."""
    meaning = meaning_of(errcode)
    return f"{errcode} {meaning.en} ({meaning.zh})"
