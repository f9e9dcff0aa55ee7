"""Telling the operator (floor 4): figures held against rules, incidents opened and ended, messages delivered.

What is decided is decided in `policy` (`rules`, `readings`, `incidents`); what was told stands in the ledger. Here the
one is asked, the other written, and a message sent, by whichever process has this job.
"""

from __future__ import annotations

from proxy.alerts.figures import Accounts, NoAccounts
from proxy.alerts.watch import EVERY_S, AlertWatch

__all__ = ["EVERY_S", "Accounts", "AlertWatch", "NoAccounts"]
