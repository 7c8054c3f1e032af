"""`broadcastd-client`: is the daemon there; and send what was spooled while it was not."""

import argparse
import sys
from pathlib import Path
from typing import Optional

from broadcastd_client import BroadcastError, Refused, from_environment


def main(argv: Optional[list[str]] = None) -> int:
    """Exit codes: 0 done, 1 no usable spool, 2 wrong usage, 3 no daemon, or not all sent, 5 refused."""
    parser = argparse.ArgumentParser("broadcastd-client", description=__doc__, epilog=main.__doc__)
    parser.add_argument("command", choices=("ping", "flush"))
    parser.add_argument("--spool", help="the directory to flush, or BROADCASTD_SPOOL")
    parser.add_argument("--old", action="store_true", help="flush what is over 24 h old, too")
    parser.add_argument("--host", help="or BROADCASTD_HOST; the token is read from BROADCASTD_TOKEN")
    parser.add_argument("--port", help="or BROADCASTD_PORT")
    asked = parser.parse_args(argv)
    try:
        client = from_environment(spool=asked.spool, host=asked.host, port=asked.port)
        if asked.command == "ping":
            print("broadcastd", client.ping()["version"])
            return 0
        if not client.spool:
            raise ValueError("flush needs --spool DIR")
        counts = client.flush(asked.old)
        print(", ".join(f"{name} {count}" for name, count in counts.items()))
        for reason in sorted(Path(client.spool).glob("*.reason")):
            print(f"set aside: {reason.with_suffix('.refused')}: {reason.read_text('utf-8')}")
        return 3 if counts["left"] else 5 if counts["refused"] else 0
    except (BroadcastError, OSError, ValueError) as error:
        print("broadcastd-client:", " ".join(str(error).split()), file=sys.stderr)
        codes = {Refused: 5, BroadcastError: 3, OSError: 1, ValueError: 2}
        return next(code for kind, code in codes.items() if isinstance(error, kind))
