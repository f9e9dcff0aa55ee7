"""The composition root (floor 6): the only package that names concrete backends and joins them into a gateway.

`parts` opens what a gateway is made of, `serving` mounts the edge on it and serves, `workers` does so in several
processes, `chores` lists the jobs beside it, `upkeep` looks after the books, `alerting` joins the ledger's incidents to
webhooks, `newcomers` greets who starts it for the first time, `trials` thinks one request through or makes it, for the
command line.
"""

from __future__ import annotations

from proxy.app.alerting import TestResult, send_tests
from proxy.app.parts import OPERATOR_KEY, Gateway, Settings, open_gateway, open_ledger, open_vault, put_in_force
from proxy.app.serving import build_app, run, run_workers
from proxy.app.trials import explain, test_model, test_tenant
from proxy.app.upkeep import list_accounts, read_accounts

__all__ = [
    "OPERATOR_KEY",
    "Gateway",
    "Settings",
    "TestResult",
    "build_app",
    "explain",
    "list_accounts",
    "open_gateway",
    "open_ledger",
    "open_vault",
    "put_in_force",
    "read_accounts",
    "run",
    "run_workers",
    "send_tests",
    "test_model",
    "test_tenant",
]
