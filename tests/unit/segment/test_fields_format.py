"""docs/formats/fields.md is true: its example is what is written, and what is read."""

from __future__ import annotations

import re
from pathlib import Path

from akidb.filter import Match
from akidb.segment.fields import FieldIndex, FieldIndexView

DOCUMENT = Path(__file__).parents[3] / "docs" / "formats" / "fields.md"


def example() -> bytes:
    lines = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ){16})", DOCUMENT.read_text(), re.MULTILINE)
    data = bytearray(int(lines[-1][0], 16) + 16)
    for offset, text in lines:
        data[int(offset, 16) : int(offset, 16) + 16] = bytes.fromhex(text)
    return bytes(data)


def test_example_is_what_is_written() -> None:
    index = FieldIndex()
    index.add(0, [b'{"lang": "en"}', b'{"lang": ["de", "en"], "n": 7}'])
    assert index.to_bytes() == example()


def test_example_is_what_is_read() -> None:
    view = FieldIndexView(example())
    assert view.rows == 2
    assert list(view.match(Match("lang", texts=("en",)))) == [0, 1]
    assert list(view.match(Match("lang", texts=("de",)))) == [1]
    assert list(view.match(Match("n", numbers=(7,)))) == list(view.exists("n")) == [1]
