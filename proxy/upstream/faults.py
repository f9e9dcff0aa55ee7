"""What goes wrong between us and a provider, said once in our words: a kind, a message without host or bytes, a cost.

The phase decides about money: before the request was sent nothing can have been spent, afterwards it may. So faults of
the way to a connection are read from what the system raises, and all later ones are the constants below.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from proxy.errors import Failure, FailureKind

CONNECT_FAULTS: Final = (OSError, ValueError)
"""All that is raised on the way to a connection besides cancellation; ValueError is a header or URL that cannot be
written."""

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
_CONNECT_FAULT: Final = "No connection to the provider could be made."
_CONNECT_FAULTS: Final = {
    errno.ECONNREFUSED: "The provider refused the connection.",
    errno.ECONNRESET: "The provider reset the connection while it was being made.",
    errno.ENETUNREACH: "The provider's network cannot be reached.",
    errno.EHOSTUNREACH: "The provider's host cannot be reached.",
    errno.ETIMEDOUT: "The provider did not accept a connection in time.",
    errno.EMFILE: "No connection could be made: this process has too many open files.",
}


class NameFault(OSError):
    """A host name led to no address, or not in time."""


def connect_failure(message: str, *, kind: FailureKind = FailureKind.CONNECT) -> Failure:
    """Say that nothing was sent, so nothing can have been spent."""
    return Failure(kind, message)


def sent_failure(kind: FailureKind, message: str) -> Failure:
    """Say that the request had gone out, so the provider may bill for it."""
    return Failure(kind, message, may_have_cost=True)


NO_ANSWER: Final = sent_failure(FailureKind.BROKEN_STREAM, "The provider closed the connection without an answer.")
CUT: Final = sent_failure(FailureKind.BROKEN_STREAM, "The connection broke before the provider's reply was complete.")
NOT_HTTP: Final = sent_failure(FailureKind.INVALID_REPLY, "The provider's reply is not valid HTTP.")
UNREADABLE: Final = sent_failure(FailureKind.INVALID_REPLY, "The provider's compressed reply cannot be read.")
TOO_LONG: Final = sent_failure(FailureKind.INVALID_REPLY, "The provider's reply is too long.")
GROWS: Final = sent_failure(FailureKind.INVALID_REPLY, "The provider's reply grows too much.")


def read_connect_fault(error: OSError | ValueError) -> Failure:
    """Explain why no request went out; the more exact class comes first."""
    match error:
        case ssl.SSLCertVerificationError():
            return connect_failure(_name_certificate_fault(error))
        case ssl.SSLError():
            return connect_failure("The TLS handshake with the provider failed.")
        case NameFault() | socket.gaierror():
            return connect_failure("The provider's host name was not found.")
        case TimeoutError(errno=None):
            return connect_failure("No connection to the provider was made in time.", kind=FailureKind.TIMEOUT)
        case OSError():
            return connect_failure(_CONNECT_FAULTS.get(error.errno or 0, _CONNECT_FAULT))
        case _:
            return connect_failure("The request cannot be written: check the provider's base_url, api_key and headers.")


def _name_certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    return f"The provider's TLS certificate {_CERTIFICATE_FAULTS.get(error.verify_code, 'is not trusted')}."
