"""What each kind of alert says, in English and Chinese. The names in braces are facts of the notice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from broadcastd.notices import NoticeKind as Kind

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Words:
    """One kind in one language."""

    title: str
    over: str
    """The title when it is over."""
    says: str
    """What it means for the sending."""
    do: str
    """What an operator does next. `{restart}`: the fact, or `RESTART`."""


_EN: Mapping[Kind, Words] = {
    Kind.DAEMON_DOWN: Words(
        "broadcastd does not answer",
        "broadcastd answers again",
        "No post can be taken in, and nothing is sent. What was accepted goes on after a start.",
        "broadcastd info; then look at its log. Start it again: {restart}",
    ),
    Kind.CANARY_FAILS: Words(
        "a post would not go through now: {about}",
        "posts would go through again: {about}",
        "broadcastd answers. What it needs for sending is not there; what is accepted waits for it.",
        "broadcastd ping --canary shows each part; put the reason right. It goes on by itself then.",
    ),
    Kind.JOB_STUCK: Words(
        "job {about} does not move",
        "job {about} moves again",
        "It is accepted, and nobody has got an outcome for a long time.",
        "broadcastd job {about}: `waits for` tells why. broadcastd info: is WeChat, is the database there?",
    ),
    Kind.JOB_HELD: Words(
        "job {about} is held",
        "job {about} is no longer held",
        "Nobody of it is asked until an operator lets it go on. Nobody is lost, and nobody is asked twice.",
        "Put the reason right, then: broadcastd resume {about} (or: broadcastd cancel {about})",
    ),
    Kind.ACCOUNT_HELD: Words(
        "WeChat refuses account {about}",
        "WeChat takes account {about} again",
        "All its jobs are held. One call tries it again now and then; nobody is lost by it.",
        "Put the reason right in WeChat's console, then: broadcastd resume JOB (any of its jobs)",
    ),
    Kind.QUOTA_SHORT: Words(
        "the day's calls will not do: {about}",
        "calls are left again: {about}",
        "Who cannot be asked today waits for the next day, or goes by another channel; nobody is lost.",
        "broadcastd quota; it can be reset 10 times a month: broadcastd quota clear",
    ),
    Kind.LEDGER_UNWRITABLE: Words(
        "the ledger cannot be written",
        "the ledger can be written again",
        "New posts are refused and nobody is asked, until it can be written. It goes on by itself then.",
        "df -h: is its disk full? Is its database there? broadcastd info shows when it is back.",
    ),
    Kind.LEDGER_COPIED: Words(
        "this ledger is a copy, or was restored",
        "the ledger was adopted",
        "Its open jobs are held: those that went on elsewhere would be sent twice.",
        "Make sure that its original is stopped for good, then: broadcastd ledger adopt",
    ),
    Kind.DISK_SHORT: Words(
        "the ledger's disk is nearly full",
        "the ledger's disk has room again",
        "With less room than ledger.reserve_mb new posts are refused.",
        "df -h; make room, or move the ledger",
    ),
    Kind.EXPIRES_SOON: Words(
        "{about} expires soon",
        "{about} was renewed",
        "Once it has expired, clients or WeChat refuse the connection.",
        "Renew it, then restart broadcastd",
    ),
    Kind.FRAME_REFUSED: Words(
        "a post was refused",
        "posts are taken again",
        "It is NOT sent. The old client reads no answer, so whoever paid may not know.",
        "Put the error right, and have it sent again: broadcastd send, or the payment's own repeat",
    ),
    Kind.HOOK_FAILING: Words(
        "the site is not told that jobs have ended: {about}",
        "the site is told again that jobs have ended: {about}",
        "Sending goes on. It is tried again for a day after a job's end, then given up.",
        "Look at accounts.….finished in the settings, and at the site",
    ),
    Kind.JOB_FINISHED: Words("job {about} has ended", "", "", "broadcastd report {about}"),
    Kind.TEST: Words("this is a test", "", "Alerts of broadcastd arrive here.", ""),
}

_ZH: Mapping[Kind, Words] = {
    Kind.DAEMON_DOWN: Words(
        "broadcastd 没有应答",
        "broadcastd 恢复应答",
        "现在无法接收新的群发，也没有在发送。已接受的任务都在磁盘上，启动后会继续。",
        "运行 broadcastd info，再看日志。重新启动：{restart}",
    ),
    Kind.CANARY_FAILS: Words(
        "现在群发无法完成：{about}",
        "群发恢复正常：{about}",
        "broadcastd 有应答，但发送所需的条件不具备；已接受的任务会等待，不会丢失。",
        "运行 broadcastd ping --canary 查看各个部分，排除原因后自动继续。",
    ),
    Kind.JOB_STUCK: Words(
        "任务 {about} 停滞不前",
        "任务 {about} 恢复进展",
        "任务已接受，但很久没有任何一位接收者得到结果。",
        "运行 broadcastd job {about}，看 waits for 说明的原因；broadcastd info 可看微信和数据库是否正常。",
    ),
    Kind.JOB_HELD: Words(
        "任务 {about} 已搁置，等待处理",
        "任务 {about} 不再搁置",
        "在有人处理之前不再向任何人发送。不会遗漏，也不会重复。",
        "排除原因后运行：broadcastd resume {about}（或取消：broadcastd cancel {about}）",
    ),
    Kind.ACCOUNT_HELD: Words(
        "微信拒绝公众号 {about} 的调用",
        "微信恢复接受公众号 {about} 的调用",
        "该公众号的全部任务已搁置。程序会不时用一次调用试探；不会遗漏任何人。",
        "在微信公众平台排除原因，然后运行：broadcastd resume 任务号（它的任意一个任务）",
    ),
    Kind.QUOTA_SHORT: Words(
        "今日调用次数不够：{about}",
        "调用次数已恢复：{about}",
        "今天发不到的人会等到次日，或改走其他通道；不会遗漏任何人。",
        "运行 broadcastd quota 查看；每月可清零 10 次：broadcastd quota clear",
    ),
    Kind.LEDGER_UNWRITABLE: Words(
        "账本无法写入",
        "账本恢复写入",
        "恢复之前拒绝新的群发，也不再发送；恢复后自动继续。",
        "运行 df -h 看磁盘是否已满，数据库是否正常；broadcastd info 可看是否恢复。",
    ),
    Kind.LEDGER_COPIED: Words(
        "账本是副本，或是从备份恢复的",
        "账本已被认领",
        "未完成的任务已搁置：若它们在别处继续过，再发就会重复。",
        "确认原来的程序已彻底停止，然后运行：broadcastd ledger adopt",
    ),
    Kind.DISK_SHORT: Words(
        "账本所在磁盘将满",
        "账本所在磁盘恢复空间",
        "剩余空间低于 ledger.reserve_mb 时会拒绝新的群发。",
        "运行 df -h，清理空间，或迁移账本",
    ),
    Kind.EXPIRES_SOON: Words(
        "{about} 即将过期",
        "{about} 已更新",
        "过期后客户端或微信会拒绝连接。",
        "更新后重新启动 broadcastd",
    ),
    Kind.FRAME_REFUSED: Words(
        "一条群发被拒绝",
        "群发恢复接收",
        "这条内容【没有】发送。旧客户端不读应答，付款方可能并不知道。",
        "改正错误后重发：broadcastd send，或由支付方再次通知",
    ),
    Kind.HOOK_FAILING: Words(
        "无法把任务结束通知网站：{about}",
        "恢复通知网站任务结束：{about}",
        "发送不受影响。任务结束后一天之内会不断重试，之后放弃。",
        "检查设置中的 accounts.….finished 以及网站；broadcastd job 任务号 可看任务如何结束",
    ),
    Kind.JOB_FINISHED: Words("任务 {about} 已结束", "", "", "broadcastd report {about}"),
    Kind.TEST: Words("这是一条测试", "", "broadcastd 的告警会发到这里。", ""),
}

RESTART: Mapping[str, str] = {
    "en": "systemctl restart broadcastd; without systemd: broadcastd start",
    "zh": "systemctl restart broadcastd；没有 systemd 时：broadcastd start",
}
"""How a daemon is started, where no command is in the settings."""
NOT_SHOWN = ("restart",)
"""Facts that have their place in the texts."""

WORDS: Mapping[str, Mapping[Kind, Words]] = {"en": _EN, "zh": _ZH}

# Facts by name, in the order in which they are shown; others follow under their own name.
LABELS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "reason": "reason", "error": "error", "message": "message", "errcode": "errcode",
        "account": "account", "channel": "channel", "job": "job", "key": "key", "ref": "ref",
        "content": "content", "peer": "from", "state": "state", "recipients": "recipients", "sent": "sent",
        "rejected": "rejected",
        "failed": "failed", "unknown": "unknown", "skipped": "skipped", "in_doubt": "in doubt",
        "tried_again_in_s": "tried again in, s", "lasted_s": "it lasted",
        "jobs_stuck": "jobs that stand still",
    },
    "zh": {
        "reason": "原因", "error": "错误", "message": "说明", "errcode": "错误码", "account": "公众号",
        "channel": "通道", "job": "任务", "key": "key", "ref": "ref", "content": "内容", "peer": "来自",
        "state": "状态", "recipients": "接收者", "sent": "已发送", "rejected": "被拒绝",
        "failed": "失败", "unknown": "结果不明", "skipped": "跳过", "in_doubt": "存疑",
        "tried_again_in_s": "多少秒后再试", "lasted_s": "持续时间", "jobs_stuck": "停滞的任务数",
    },
}  # fmt: skip

# What the frame of every alert says.
FRAME: Mapping[str, Mapping[str, str]] = {
    "en": {
        "over": "over", "still": "still", "at": "at", "since": "since",
        "do": "What to do", "means": "meaning",
        "said": "came back or was said again {n} times since the last alert",
        "flaps": "it comes and goes: this is time number {n}, and its end is told after 15 min of quiet",
        "was": "it came and went {n} times since the last alert, and is over now",
        "h": " h", "min": " min", "s": " s",
        "many": "{n} posts were refused", "last": "The last of them",
        "more": "and {n} more alerts",
        "many_says": "They were too many for one hour and are not told one by one",
        "colon": ": ",
    },
    "zh": {
        "over": "已恢复", "still": "仍然", "at": "时间", "since": "开始于", "do": "怎么办", "means": "含义",
        "said": "上次告警以来又出现 {n} 次",
        "flaps": "反复出现：这是第 {n} 次。平静 15 分钟之后才会告知恢复",
        "was": "上次告警以来反复出现 {n} 次，现在已恢复",
        "h": " 小时", "min": " 分", "s": " 秒",
        "many": "{n} 条群发被拒绝", "last": "其中最后几条",
        "more": "另有 {n} 条告警",
        "many_says": "一小时内告警太多，不再逐条发送",
        "colon": "：",
    },
}  # fmt: skip
