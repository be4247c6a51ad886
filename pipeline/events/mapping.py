"""
The mapping: a small typed file that says where the contract's columns are in somebody's own log.

Nothing is dropped silently. A rule under `refuse` gives its rows a reason; they are quarantined under
`mapping:<reason>` and counted. A preset is such a file that ships with the platform (`pipeline/events/presets`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.contracts import MODALITIES
from pipeline.errors import BadMapping

PRESETS = Path(__file__).parent / "presets"
ReasonCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Part(BaseModel):
    """A part of a mapping; an unknown name is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileShape(Part):
    """How a file is written down."""

    format: Literal["csv", "jsonl", "parquet"] | None = Field(
        default=None, description="Taken from the file's ending where it is not given."
    )
    separator: str = Field(default=",", min_length=1, max_length=1, description="Between the columns of a CSV file.")
    encoding: str = Field(default="utf-8", description="Of a CSV or JSON-lines file, for example `cp1252`.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            "".encode(name)
        except LookupError:
            raise ValueError(f"{name!r} is not an encoding; expected for example utf-8, latin-1 or cp1252") from None
        return name


class TimeShape(Part):
    """How a time is written down. Without `unit` and `format` it is ISO 8601."""

    unit: Literal["s", "ms", "us", "ns"] | None = Field(default=None, description="Of a number since 1970.")
    format: str | None = Field(default=None, description="Of a text, for example `%d/%m/%Y %H:%M`.")
    zone: str = Field(default="UTC", description="Of a time that names none, for example `Europe/London`.")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f"{zone!r} is not a time zone; expected for example UTC or Europe/London")
        return zone

    @model_validator(mode="after")
    def _one_way(self) -> TimeShape:
        if self.unit and self.format:
            raise ValueError("give `unit` (numbers) or `format` (text), not both")
        return self


class Condition(Part):
    """One test of one column. Text is compared exactly, numbers as numbers."""

    column: str
    equals: str | None = None
    one_of: tuple[str, ...] | None = None
    prefix: str | None = None
    matches: str | None = Field(default=None, description="A regular expression that is found in the text.")
    empty: bool | None = Field(default=None, description="Null or blank (true), or neither (false).")
    below: float | None = None
    above: float | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        tests = [name for name in type(self).model_fields if name != "column" and getattr(self, name) is not None]
        if len(tests) != 1:
            raise ValueError(
                f"a condition on {self.column!r} needs exactly one of equals, one_of, prefix, matches, empty, below, "
                f"above; found {', '.join(tests) or 'none'}"
            )
        return self


class TypeRule(Part):
    """Rows that meet every condition have this event type."""

    when: tuple[Condition, ...] = Field(min_length=1)
    type: str


class Refusal(Part):
    """Rows that meet every condition are quarantined with this reason."""

    when: tuple[Condition, ...] = Field(min_length=1)
    reason: ReasonCode


class EventType(Part):
    """One type for all rows, or a column whose words are translated; the first rule that holds decides."""

    constant: str | None = None
    column: str | None = None
    values: dict[str, str] = {}
    rules: tuple[TypeRule, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> EventType:
        if (self.constant is None) == (self.column is None):
            raise ValueError("give `constant` (one type for all rows) or `column` (the type is in the file)")
        if self.values and self.column is None:
            raise ValueError("`values` translate a `column`; there is none")
        return self


class Product(Part):
    """Several columns multiplied, for example quantity and unit price."""

    product: tuple[str, ...] = Field(min_length=2)


class HashOf(Part):
    """The columns that make a row the same event; the default is all of them."""

    hash_of: tuple[str, ...] = Field(min_length=1)


class EventColumns(Part):
    """Where the contract's columns are in the file."""

    user_id: str
    item_id: str
    event_time: str
    value: str | Product | None = None
    event_id: str | HashOf | None = None


class EventsFile(FileShape):
    """The log of events."""

    explode: str | None = Field(default=None, description="A column that holds a list of events.")
    columns: EventColumns
    event_type: EventType
    time: TimeShape = TimeShape()
    refuse: tuple[Refusal, ...] = ()
    item_title: str | None = Field(default=None, description="A column with the item's title, without an items file.")


class ItemColumns(Part):
    """Where an item's description is in the file."""

    item_id: str
    title: str
    categories: str | None = None
    valid_from: str | None = None
    vectors: dict[Literal[MODALITIES], str] = Field(
        default={}, description="Modality (audio, image, video) and the column with its vectors: a list of numbers."
    )


class ItemsFile(FileShape):
    """The catalogue."""

    columns: ItemColumns
    category_separator: str = Field(default="|", min_length=1)
    no_category: tuple[str, ...] = Field(default=(), description="Words that say that there is none.")
    time: TimeShape = TimeShape()


class Mapping(Part):
    """Where everything is in somebody's log."""

    description: str = ""
    events: EventsFile
    items: ItemsFile | None = None

    @property
    def digest(self) -> str:
        """Changes with the mapping's meaning, not with its comments."""
        meaning = self.model_dump_json(exclude={"description"})
        return hashlib.sha256(meaning.encode()).hexdigest()[:12]


def preset_names() -> list[str]:
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def load_mapping(name_or_path: str | Path) -> Mapping:
    """A preset by its name, or a mapping file by its path.

    Raises:
        BadMapping: there is no such preset or file, it is not YAML, or a field does not fit.
    """
    preset = PRESETS / f"{name_or_path}.yaml"
    path = preset if str(name_or_path) in preset_names() else Path(name_or_path)
    if not path.is_file():
        raise BadMapping(
            f"There is no mapping {str(name_or_path)!r}. Expected a file or one of: {', '.join(preset_names())}."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadMapping(f"The mapping {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadMapping(f"The mapping {path} is empty or not a mapping. Expected at least `events:`.")
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"`{'.'.join(str(part) for part in fault['loc'])}`: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()[:3]
        )
        raise BadMapping(
            f"The mapping {path} does not fit: {faults}. Compare with a preset, for example "
            f"{PRESETS.name}/movielens.yaml beside the code."
        ) from error
