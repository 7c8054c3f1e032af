"""Implementations of the `Channel` port: one file and one row each."""

from collections.abc import Callable, Mapping

from broadcastd.channels.custom import CustomChannel
from broadcastd.channels.mass import MassChannel
from broadcastd.channels.subscribe import SubscribeChannel
from broadcastd.channels.template import TemplateChannel
from broadcastd.channels.wechat import WechatApi
from broadcastd.ports import Channel
from broadcastd.settings import AccountSettings

CHANNELS: Mapping[str, Callable[[WechatApi, AccountSettings], Channel]] = {
    "custom": CustomChannel,
    "template": TemplateChannel,
    "subscribe": SubscribeChannel,
    "mass": MassChannel,
}
