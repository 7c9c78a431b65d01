from pathlib import Path

from akidb.config import TABLE
from akidb.config.load import OTHER_VARIABLES
from akidb.config.show import table

DOCUMENT = Path(__file__).parents[3] / "docs/configuration.md"


def test_the_document_holds_the_table_as_it_is():
    """After a change of settings: `python -c "from akidb.config.show import table; print(*table(), sep='\\n')"`."""
    text = DOCUMENT.read_text("utf-8")
    assert text.endswith("\n".join(table()) + "\n")


def test_the_document_names_the_variables_that_are_no_settings():
    text = DOCUMENT.read_text("utf-8")
    assert [name for name in (*OTHER_VARIABLES, "RUST_LOG") if f"`{name}`" not in text] == []


def test_the_table_has_a_row_for_each_setting_and_no_secret_default():
    rows = list(table())[2:]
    assert len(rows) == len(TABLE)
    assert all(row.count("|") == 6 for row in rows)
