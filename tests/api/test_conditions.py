"""Conditional and repeated writes over REST: where they are said, and how a refusal is told."""

import pytest

from akidb.session import parse_token

VECTORS = "/collections/compass/vectors"


async def test_versions_are_told_and_taken(filled):
    east = (await filled.get(f"{VECTORS}/east")).body
    assert east["version"] == 1
    body = {"vectors": [{"id": "east", "vector": [1, 1], "if_version": 1}, {"id": "new", "vector": [1, 2]}]}
    answer = await filled.post(VECTORS, body)
    assert (answer.status, answer.body["lsn"]) == (200, 2)
    patched = await filled.call("PATCH", f"{VECTORS}/east", {"payload": {"n": 5}, "if_version": 2})
    assert patched.body["lsn"] == 3
    assert (await filled.call("DELETE", f"{VECTORS}/east?if_version=3")).status == 204
    answer = await filled.post(f"{VECTORS}/delete", {"ids": ["north", "new"], "if_version": [None, 2]})
    assert answer.status == 200
    assert (
        await filled.post(VECTORS, {"vectors": [{"id": "east", "vector": [1, 1]}], "if_absent": True})
    ).status == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "says", "loc"),
    [
        ({"if_absent": True}, 409, "point_exists", "point 'east' has version 1, expected none", ["if_absent"]),
        (
            {"if_version": 0},
            409,
            "point_exists",
            "vectors.1.if_version: point 'east' has version 1, expected none",
            ["vectors", 1, "if_version"],
        ),
        ({"if_version": 9}, 412, "version_mismatch", "has version 1, expected version 9", ["vectors", 1, "if_version"]),
        ({"if_version": -1}, 422, "invalid_body", ">= 0", ["vectors", 1, "if_version"]),
        ({"if_version": "1"}, 422, "invalid_body", "got `str`", ["vectors", 1, "if_version"]),
    ],
)
async def test_an_upsert_whose_condition_does_not_hold_changes_nothing(filled, body, status, code, says, loc):
    whole = "if_absent" in body
    point = {"id": "east", "vector": [1, 1]} | ({} if whole else body)
    request = {"vectors": [{"id": "new", "vector": [1, 1]}, point]} | (body if whole else {})
    await filled.refused("POST", VECTORS, request, status=status, code=code, says=says, loc=loc)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "loc"),
    [
        ("PATCH", "/east", {"payload": {}, "if_version": 2}, 412, "version_mismatch", ["if_version"]),
        ("PATCH", "/nobody", {"payload": {}, "if_version": 2}, 404, "point_not_found", None),
        ("DELETE", "/east?if_version=2", None, 412, "version_mismatch", ["if_version"]),
        ("DELETE", "/east?if_version=x", None, 422, "invalid_condition", ["if_version"]),
        ("POST", "/delete", {"ids": ["east", "x"], "if_version": [1, 1]}, 412, "version_mismatch", ["if_version", 1]),
        ("POST", "/delete", {"ids": ["east"], "if_version": [1, 1]}, 422, "invalid_condition", ["if_version"]),
        ("POST", "/delete", {"filter": {"exists": "n"}, "if_version": 1}, 422, "invalid_condition", ["if_version"]),
    ],
)
async def test_other_writes_whose_condition_does_not_hold(filled, method, path, body, status, code, loc):
    await filled.refused(method, VECTORS + path, body, status=status, code=code, says="", loc=loc)


async def test_a_request_sent_again_under_its_key_is_done_once_and_answered_as_before(filled):
    calls = [
        ("POST", VECTORS, {"vectors": [{"id": "east", "vector": [1, 1], "payload": {"kind": "new"}}]}),
        ("PATCH", f"{VECTORS}/east", {"payload": {"n": 5}}),
        ("POST", f"{VECTORS}/delete", {"filter": {"field": "kind", "match": "new"}}),
        ("POST", f"{VECTORS}/delete", {"ids": ["north"]}),
        ("DELETE", f"{VECTORS}/north-east", None),
    ]

    async def send():
        found = []
        for n, (method, path, body) in enumerate(calls):
            answer = await filled.call(method, path, body, Idempotency_Key=f"k{n}")
            found.append((answer.status, answer.body))
            tokens.append(parse_token(answer.headers["X-AkiDB-Token"]))
        return found

    tokens = []
    first = await send()
    assert [status for status, _ in first] == [200, 200, 200, 200, 204]
    assert first[2][1]["deleted"] == 1
    assert await send() == first
    assert all(later >= token for later, token in zip(tokens[len(calls) :], tokens, strict=False))
    assert (await filled.get("/collections/compass")).body["lsn"] == 6


async def test_another_request_under_a_key_is_refused(filled):
    await filled.call("DELETE", f"{VECTORS}/nobody", Idempotency_Key="k")
    says = "was used for another request, at log position 2"
    status, code = 422, "idempotency_key_reused"
    await filled.refused("DELETE", f"{VECTORS}/east", status=status, code=code, says=says, Idempotency_Key="k")
    says, code = "Idempotency-Key: is 'k k', expected 1 to 255 printable ASCII", "invalid_idempotency_key"
    await filled.refused("DELETE", f"{VECTORS}/east", status=status, code=code, says=says, Idempotency_Key="k k")
