"""TLS to the daemon: whom to trust, and what to show."""

import ssl
from typing import Optional

from broadcastd_client.spool import StrPath

Ended = ssl.SSLEOFError  # the other side has hung up; its last words may still be there to be read
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PARTIAL_CHAIN = 0x80000  # of OpenSSL; Python 3.9 has no name for it: the server's own certificate may be `ca`


def context(
    host: str, ca: Optional[StrPath], cert: Optional[StrPath], key: Optional[StrPath]
) -> ssl.SSLContext:
    """Trust what `ca` certifies, else the system's CAs. The name is looked at, too, but not under a `ca` of
    one's own on loopback, where a tunnel may end. Raises OSError for a file that cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = not (ca and host in LOOPBACK)
    if ca:
        made.verify_flags |= PARTIAL_CHAIN
        made.load_verify_locations(ca)
    else:
        made.load_default_certs()
    if cert:
        made.load_cert_chain(cert, key, password="")  # a key that wants one must not ask for it
    return made


def was_refused(error: BaseException) -> bool:
    """Whether the other side has refused to speak: then it has taken nothing in."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def words(error: BaseException) -> str:
    """What went wrong, without OpenSSL's place in its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "it does not speak TLS"
    if "ALERT" in reason:
        return f"it does not let us in: {reason.partition('ALERT_')[2].lower().replace('_', ' ')}"
    return str(error)
