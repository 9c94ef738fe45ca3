"""Tables as programs save them; text passes through unchanged."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.text_tables import read_csv, read_json_lines
from tests.support.properties import quick

ROW = {"uri": "a.mp3", "id": "007", "date": "2020-01-01", "gain": "1.10"}
TEXT = "uri,id,date,gain\na.mp3,007,2020-01-01,1.10\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("007", '"007"').encode(),
    ],
    ids=["plain", "bom", "utf-16", "semicolons", "tabs", "cr", "crlf", "quoted"],
)
def test_every_way_to_save_csv_is_read(content: bytes) -> None:
    assert read_csv(content).rows == [ROW]


def test_short_rows_are_filled_and_long_ones_named() -> None:
    assert read_csv(b"a,b\n1\n").rows == [{"a": "1", "b": ""}]
    with pytest.raises(ValueError, match="line 3 has 3 cells, but there are 2 columns"):
        read_csv(b"a,b\n1,2\n1,2,3\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,a\n1,2\n", "column 'a' is there twice"), ("é".encode("latin-1"), "is not UTF-8")],
)
def test_what_cannot_be_read_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv(content)


def test_cells_with_line_ends_and_commas() -> None:
    assert read_csv(b'a,b\n"1\n2","3,4"\n').rows == [{"a": "1\n2", "b": "3,4"}]


@quick
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip))
def test_json_text_is_the_same_after_reading(text: str) -> None:
    import json

    line = json.dumps({"uri": "a", "note": text}, ensure_ascii=False)
    assert read_json_lines(line.encode()).rows == [{"uri": "a", "note": text}]


def test_json_values_keep_their_form() -> None:
    content = b"""{"uri": "a.mp3", "date": "2020-01-01", "year": 1999, "gain": 1.10}
{"uri": "b.mp3", "year": "n/a", "live": true, "gain": null, "tags": ["x", 1]}
"""
    first, second = read_json_lines(content).rows
    assert first == {"uri": "a.mp3", "date": "2020-01-01", "year": "1999", "gain": "1.10"}
    assert second == {
        "uri": "b.mp3", "year": "n/a", "live": "true", "gain": "", "tags": '["x", 1]',
    }  # fmt: skip


@pytest.mark.parametrize("line", [b"[1]", b"{", b"text"])
def test_other_lines_are_named(line: bytes) -> None:
    with pytest.raises(ValueError, match="line 2"):
        read_json_lines(b'{"uri": "a"}\n' + line)


def test_a_header_alone_has_columns_and_nothing_at_all_is_an_error() -> None:
    assert read_csv(b"a,b\n").columns == ["a", "b"]
    with pytest.raises(ValueError, match="no line"):
        read_csv(b"")
