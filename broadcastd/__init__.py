"""broadcastd: a paid post reaches every follower of a WeChat Official Account."""

__version__ = "0.1.0"
