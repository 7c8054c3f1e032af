"""Why a selftest stops early."""

from broadcastd.errors import BroadcastdError


class SelftestStoppedError(BroadcastdError):
    """The selftest cannot go on."""
