"""What WeChat pushes, as bytes and queries: written by hand and by wechatpy, never by broadcastd."""

import hashlib
import time
from dataclasses import dataclass, field

from wechatpy.crypto import WeChatCrypto

TOKEN = "token0of0the0callback"
APP_ID = "wx0123456789abcdef"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
OTHER_AES_KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
ACCOUNT = "gh_7f083739789a"


def sha1(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def text(openid: str, content: str, msg_id: int = 1234567890123456) -> str:
    """A follower's text."""
    return (
        f"<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><FromUserName><![CDATA[{openid}]]></FromUserName>"
        "<CreateTime>1348831860</CreateTime><MsgType><![CDATA[text]]></MsgType>"
        f"<Content><![CDATA[{content}]]></Content><MsgId>{msg_id}</MsgId></xml>"
    )


def event(openid: str, name: str, more: str = "", created: int = 1395658920) -> str:
    """An event, with what is its own."""
    return (
        f"<xml><ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><FromUserName><![CDATA[{openid}]]></FromUserName>"
        f"<CreateTime>{created}</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        f"<Event><![CDATA[{name}]]></Event>{more}</xml>"
    )


def template_finished(openid: str, msgid: int, status: str = "success", created: int = 1395658920) -> str:
    """How a template message ended."""
    more = f"<MsgID>{msgid}</MsgID><Status><![CDATA[{status}]]></Status>"
    return event(openid, "TEMPLATESENDJOBFINISH", more, created)


@dataclass(frozen=True)
class Sent:
    """A request as WeChat makes it."""

    query: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Platform:
    """WeChat's side: signs, and encrypts with wechatpy."""

    token: str = TOKEN
    app_id: str = APP_ID
    aes_key: str = AES_KEY
    nonce: str = "486452656"
    timestamp: int = field(default_factory=lambda: int(time.time()))

    def signed(self) -> dict[str, str]:
        stamp = str(self.timestamp)
        return {
            "signature": sha1(self.token, stamp, self.nonce), "timestamp": stamp, "nonce": self.nonce,
        }  # fmt: skip

    def verification(self, echo: str) -> dict[str, str]:
        return {**self.signed(), "echostr": echo}

    def plain(self, xml: str) -> Sent:
        return Sent({**self.signed(), "openid": "o"}, xml.encode())

    def _sealed(self, xml: str) -> tuple[str, str]:
        crypto = WeChatCrypto(self.token, self.aes_key, self.app_id)
        whole = crypto.encrypt_message(xml, self.nonce, str(self.timestamp))
        return (
            whole.split("<Encrypt><![CDATA[")[1].split("]]>")[0],
            whole.split("<MsgSignature><![CDATA[")[1].split("]]>")[0],
        )

    def safe(self, xml: str) -> Sent:
        encrypted, signature = self._sealed(xml)
        query = {**self.signed(), "encrypt_type": "aes", "msg_signature": signature}
        inner = f"<ToUserName><![CDATA[{ACCOUNT}]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt>"
        return Sent(query, f"<xml>{inner}</xml>".encode())

    def compatible(self, xml: str) -> Sent:
        encrypted, signature = self._sealed(xml)
        query = {**self.signed(), "encrypt_type": "aes", "msg_signature": signature}
        return Sent(
            query, xml.replace("</xml>", f"<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>").encode()
        )

    def opened(self, reply: bytes) -> str:
        """An encrypted passive reply, checked and decrypted by wechatpy."""
        found = reply.decode()
        stamp = found.split("<TimeStamp>")[1].split("<")[0]
        signature = found.split("<MsgSignature><![CDATA[")[1].split("]]>")[0]
        crypto = WeChatCrypto(self.token, self.aes_key, self.app_id)
        opened: str = crypto.decrypt_message(found, signature, stamp, self.nonce)
        return opened
