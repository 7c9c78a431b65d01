import msgspec
import pytest

from akidb.api.body import decode
from akidb.errors import InvalidInputError


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    values: list[float] = []


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaves: list[Leaf]


TREE = msgspec.json.Decoder(Tree)


def refused(text: bytes, at=()):
    with pytest.raises(InvalidInputError) as error:
        decode(TREE, text, at=at)
    (fault,) = error.value.faults
    return error.value.code, fault.loc, str(error.value)


@pytest.mark.parametrize(
    ("text", "code", "loc"),
    [
        (b'{"leaves":[{"name":"a"},{"name":1}]}', "invalid_body", ("leaves", 1, "name")),
        (b'{"leaves":[{"name":"a","values":[1,"x"]}]}', "invalid_body", ("leaves", 0, "values", 1)),
        (b'{"leaves":[{"name":"a","x":1}]}', "unknown_field", ("leaves", 0, "x")),
        (b'{"leaves":[{}]}', "missing_field", ("leaves", 0, "name")),
        (b'{"leaves":[{"name":"a","values":[1e999]}]}', "number_out_of_range", ("leaves", 0, "values", 0)),
        (b'{"leaves":[{"name":%s}]}' % (b"9" * 6000), "number_out_of_range", ("leaves", 0, "name")),
        (b"[]", "invalid_body", ()),
        (b"null", "invalid_body", ()),
    ],
)
def test_a_refused_value_is_named_by_its_path(text, code, loc):
    assert refused(text)[:2] == (code, loc)


def test_the_path_of_a_part_begins_where_the_part_stands():
    assert refused(b'{"leaves":[{"name":1}]}', at=("trees", 3))[1] == ("trees", 3, "leaves", 0, "name")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{,}", "byte 1 (line 1, column 2)"),
        (b'{"leaves":\n  [}', "byte 14 (line 2, column 4)"),
        (b'{"leaves":[]', "byte 12"),
        (b"", "byte 0"),
        (b'{"leaves":[]} {}', "byte 14 (line 1, column 15): trailing characters"),
        (b'{"leaves":[{"name":"\xff"}]}', "not UTF-8"),
    ],
)
def test_broken_json_is_named_by_its_position(text, says):
    code, _, message = refused(text)
    assert code == "malformed_json"
    assert says in message


def test_endless_nesting_is_refused_and_does_not_crash():
    assert refused(b'{"leaves":' + b"[" * 1_000_000)[0] in ("json_too_deep", "invalid_body")
