"""
Erases a user: a tombstone first, so that nothing comes back meanwhile; then place after place; then a look at each.

Safe to repeat. After a crash the same call goes on with the same receipt. What it needs to know about the user is noted
before the first removal.
"""

from __future__ import annotations

from datetime import datetime

from pipeline.contracts import MAX_ID_LENGTH
from pipeline.errors import UserMistake
from pipeline.faults import reach
from pipeline.observability import get_logger
from pipeline.privacy.receipts import Receipt, TrainedOn, is_distinct, unlearn_by, without_id
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.steps.erasure_places import PlaceOf, first_event, places_of
from pipeline.stores.ledger import Ledger, Tombstone
from pipeline.stores.locks import alone
from pipeline.stores.model_versions import MODELS
from pipeline.stores.receipts import read_receipt, receipt_file, write_receipt
from pipeline.stores.registered import registered_versions
from pipeline.stores.tables import Lake
from pipeline.stores.tombstones import Tombstones

log = get_logger(__name__)


def forget_user(user_id: str, reason: str, settings: Settings, known_at: datetime) -> Receipt:
    """Take a user out of every place, and keep it so. Twice is the same as once; a crash goes on at the same place.

    Raises:
        UserMistake: an id that no log can carry, or no reason.
        BadSetting: the key of the tombstones that are there is not here.
        EngineFailure: a store did not answer. What was done stays done; run it again.
    """
    if not 0 < len(user_id.strip()) <= MAX_ID_LENGTH:
        raise UserMistake(f"A user id has 1 to {MAX_ID_LENGTH} characters, not {len(user_id.strip())}.")
    if not reason.strip():
        raise UserMistake("An erasure needs a reason: --reason 'request of 2026-03-01'.")
    Ledger(settings.ledger_url).migrate()
    stored = UserIds.of(settings).stored_id(user_id.strip())
    with alone(settings, "erasure"):
        said = without_id(reason.strip(), [user_id.strip(), stored])[:1000]
        tombstone = Tombstones.of(settings).add(stored, said, known_at)
        receipt = _begun(stored, tombstone, settings, known_at)
        places, unreadable = places_of(stored, settings, known_at, receipt.is_searched_as_text)
        for place in places:
            receipt = _emptied(place, receipt, settings, known_at)
        receipt = receipt.model_copy(update={"unreadable": tuple(unreadable)})
        receipt = _verified(receipt, places, settings, known_at)
    log.info("user erased", receipt=receipt.receipt, remaining=receipt.remaining)
    return receipt


def verify_receipt(named: str, settings: Settings, known_at: datetime) -> Receipt:
    """Look at every place of a receipt again. Needs no id: what is there is hashed and compared. Changes nothing there.

    Raises NotFound when there is no such receipt.
    """
    receipt = Receipt.model_validate(read_receipt(settings, named))
    places, _ = places_of(None, settings, known_at, receipt.is_searched_as_text)
    return _verified(receipt, places, settings, known_at)


def _begun(stored: str, tombstone: Tombstone, settings: Settings, known_at: datetime) -> Receipt:
    """The receipt that is there already, or a new one with all that must be known before rows are gone."""
    name, seen = tombstone.keyed_hash[:16], first_event(Lake.of(settings), stored)
    if receipt_file(settings, name).is_file() or Ledger(settings.ledger_url).receipt(name) is not None:
        receipt = Receipt.model_validate(read_receipt(settings, name))
    else:
        receipt = Receipt(
            receipt=name,
            keyed_hash=tombstone.keyed_hash,
            key_id=tombstone.key_id,
            reason=tombstone.reason,
            asked_at=tombstone.erased_at,
            is_searched_as_text=is_distinct(stored),
        )
    firsts = [moment for moment in (receipt.first_event, seen) if moment is not None]
    receipt = receipt.model_copy(
        update={
            "first_event": min(firsts, default=None),
            "trained_on": receipt.trained_on
            or (tuple(_trained_on(min(firsts), receipt.asked_at, settings)) if firsts else ()),
            "training_sets": tuple(dict.fromkeys([*receipt.training_sets, *_training_sets(settings)])),
        }
    )
    return _written(receipt, settings, known_at)


def _emptied(place: PlaceOf, receipt: Receipt, settings: Settings, known_at: datetime) -> Receipt:
    begun = receipt.place(place.name).beginning(place.count())
    receipt = _written(receipt.with_place(begun), settings, known_at)
    reach("erase.before_place")
    place.remove()
    reach("erase.after_place")
    return _written(receipt.with_place(begun.model_copy(update={"is_done": True})), settings, known_at)


def _verified(receipt: Receipt, places: list[PlaceOf], settings: Settings, known_at: datetime) -> Receipt:
    hashes = frozenset({receipt.keyed_hash})
    for place in places:
        seen = receipt.place(place.name).model_copy(update={"remaining": place.left(hashes)})
        receipt = receipt.with_place(seen)
    return _written(receipt.model_copy(update={"verified_at": known_at}), settings, known_at)


def _trained_on(first: datetime, asked_at: datetime, settings: Settings) -> list[TrainedOn]:
    """Versions whose data reached beyond the user's first event. None holds a row of the user: users are folded in."""
    return [
        TrainedOn(
            model=version.model,
            version=version.number,
            status=version.status,
            model_cutoff=version.model_cutoff,
            unlearn_by=unlearn_by(asked_at),
        )
        for version in (entry.version for entry in registered_versions(settings, MODELS))
        if version.model_cutoff > first
    ]


def _training_sets(settings: Settings) -> list[str]:
    """The sets that were handed out, marked as ones that cannot be made again."""
    if not settings.place("mlflow/mlflow.db").is_file() and not settings.stores.mlflow:
        return []
    from pipeline.stores.training_set_log import mark_training_sets

    return mark_training_sets("an erasure has removed the old versions that it was made from", settings)


def _written(receipt: Receipt, settings: Settings, known_at: datetime) -> Receipt:
    facts = receipt.model_dump(mode="json")
    write_receipt(settings, receipt.receipt, receipt.keyed_hash, facts, known_at)
    return receipt
