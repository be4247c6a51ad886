"""Receipts of erasures: a file at home for who asked, and a row of the ledger."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

from pipeline.errors import NotFound
from pipeline.settings import Settings
from pipeline.stores.ledger import Ledger, ReceiptRecord
from pipeline.stores.private_files import write_private


def receipt_file(settings: Settings, receipt: str) -> Path:
    return settings.place(f"receipts/{receipt}.json")


def write_receipt(settings: Settings, receipt: str, keyed_hash: str, facts: dict, written_at: datetime) -> None:
    """Write both copies, the file in one move and readable by its owner only."""
    write_private(receipt_file(settings, receipt), json.dumps(facts, indent=1))
    record = ReceiptRecord(receipt=receipt, keyed_hash=keyed_hash, facts=facts, written_at=written_at)
    Ledger(settings.ledger_url).record_receipt(record)


def read_receipt(settings: Settings, named: str) -> dict:
    """A receipt by its id or file. Raises NotFound."""
    receipt = Path(named).name.removesuffix(".json")
    file = Path(named) if named.endswith(".json") and Path(named).is_file() else receipt_file(settings, receipt)
    if re.fullmatch(r"[0-9a-f]{16}", receipt) and file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    if (record := Ledger(settings.ledger_url).receipt(receipt)) is not None:
        return record.facts
    raise NotFound(f"There is no receipt {receipt!r}. Receipts lie in {settings.place('receipts')}.")
