"""What aiohttp and the system raise, said once in our words: a kind, a message without host or upstream bytes, a cost.

The phase decides about money: before the request was sent nothing can have been spent, afterwards it may.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from proxy.errors import Failure, FailureKind

Fault = aiohttp.ClientError | OSError | ValueError
FAULTS: Final = (aiohttp.ClientError, OSError, ValueError)
"""All that an aiohttp call raises besides cancellation; ValueError is a header or URL that cannot be written."""

# Numbers of OpenSSL's X509_V_ERR_*; its own texts name the host.
_CERTIFICATE_FAULTS: Final = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: "is signed by an authority that is not trusted here",
    20: "is signed by an authority that is not trusted here",
    21: "is signed by an authority that is not trusted here",
    62: "is for another host name",
    64: "is for another address",
}
UNREADABLE: Final = "The provider's compressed reply cannot be read."
_CONNECT_FAULT: Final = "No connection to the provider could be made."
_CONNECT_FAULTS: Final = {
    errno.ECONNREFUSED: "The provider refused the connection.",
    errno.ECONNRESET: "The provider reset the connection while it was being made.",
    errno.ENETUNREACH: "The provider's network cannot be reached.",
    errno.EHOSTUNREACH: "The provider's host cannot be reached.",
    errno.ETIMEDOUT: "The provider did not accept a connection in time.",
    errno.EMFILE: "No connection could be made: this process has too many open files.",
}


def connect_failure(message: str, *, kind: FailureKind = FailureKind.CONNECT) -> Failure:
    """Say that nothing was sent, so nothing can have been spent."""
    return Failure(kind, message)


def sent_failure(kind: FailureKind, message: str) -> Failure:
    """Say that the request had gone out, so the provider may bill for it."""
    return Failure(kind, message, may_have_cost=True)


def read_open_fault(error: Fault) -> Failure:
    """Explain what happened before the reply's status and headers were in; the more exact class comes first."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return connect_failure(_name_certificate_fault(error.certificate_error))
        case aiohttp.ClientSSLError():
            return connect_failure("The TLS handshake with the provider failed.")
        case aiohttp.ClientConnectorDNSError():
            return connect_failure("The provider's host name was not found.")
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            return connect_failure("No connection to the provider was made in time.", kind=FailureKind.TIMEOUT)
        case aiohttp.ClientConnectorError():
            return connect_failure(_CONNECT_FAULTS.get(error.errno or 0, _CONNECT_FAULT))
        case aiohttp.ClientResponseError():
            return sent_failure(FailureKind.INVALID_REPLY, "The provider's reply is not valid HTTP.")
        case ValueError() | aiohttp.NonHttpUrlClientError():
            return connect_failure("The request cannot be written: check the provider's base_url, api_key and headers.")
        case _:
            return sent_failure(FailureKind.BROKEN_STREAM, "The provider closed the connection without an answer.")


def read_body_fault(error: Fault) -> Failure:
    """Explain what happened while the body was coming in."""
    if isinstance(error.__cause__, ContentEncodingError):
        return sent_failure(FailureKind.INVALID_REPLY, UNREADABLE)
    return sent_failure(FailureKind.BROKEN_STREAM, "The connection broke before the provider's reply was complete.")


def _name_certificate_fault(error: Exception) -> str:
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    return f"The provider's TLS certificate {_CERTIFICATE_FAULTS.get(code, 'is not trusted')}."
