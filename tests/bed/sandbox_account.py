"""The imitated account without its servers, and the bodies that tests send to it."""

import json

from broadcastd.sandbox import Options
from broadcastd.sandbox.behaviour import Behaviour
from broadcastd.sandbox.wechat import WeChat

NOW = 1_700_000_000.0
CUSTOM = "/cgi-bin/message/custom/send"
TEMPLATE = "/cgi-bin/message/template/send"


class Account:
    """A WeChat with its first token at hand; `ask` answers the decoded JSON."""

    def __init__(self, **options):
        behaviour = Behaviour()
        behaviour.change({"errors": options.pop("errors", {}), "outages": options.pop("outages", [])}, NOW)
        self.wechat = WeChat(Options(token="good", **options), behaviour, NOW)

    def ask(self, path, body, now=NOW, method="POST", query="?access_token=good"):
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.reply = self.wechat.ask(method, path + query, raw, now)
        return json.loads(self.reply.body)

    def errcode(self, path, body, now=NOW, **how):
        return self.ask(path, body, now, **how).get("errcode")

    @property
    def last(self):
        calls = self.wechat.calls
        return calls.entry(len(calls) - 1)


def text(to="o1", content="求購信息"):
    return {"touser": to, "msgtype": "text", "text": {"content": content}}


def template(to="o1", **more):
    return {
        "touser": to,
        "template_id": "T",
        "data": {"keyword1": {"value": "求購", "color": "#173177"}},
    } | more
