"""The sample is what it was when it was chosen, or nothing."""

import pytest

from pipeline.errors import UnreadableFile
from pipeline.stack.sample import WHEEL, fetch_sample


def test_a_sample_that_is_there_needs_no_network(settings):
    folder = settings.place("sample")
    folder.mkdir()
    for name in ("ml-100k.inter", "ml-100k.item"):
        (folder / name).write_text("here")
    assert fetch_sample(settings).events.read_text() == "here"


def test_a_package_that_was_changed_is_refused_and_deleted(settings):
    folder = settings.place("sample")
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"something else")
    with pytest.raises(UnreadableFile, match="expected 9c9948"):
        fetch_sample(settings)
    assert list(folder.iterdir()) == []
