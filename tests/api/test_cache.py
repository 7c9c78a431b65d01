"""Pinning a collection over REST."""

from __future__ import annotations


async def test_a_collection_is_pinned_and_let_go(filled):
    pinned = await filled.post("/collections/compass/cache/pin", None)
    assert pinned.status == 200
    assert pinned.body["collection"] == "compass"
    cache = pinned.body["cache"]
    assert not cache["pinned"]  # a store of this machine needs no cache
    assert cache["cached_bytes"] == cache["bytes"]
    assert (await filled.get("/collections/compass")).body["cache"] == cache
    assert (await filled.call("DELETE", "/collections/compass/cache/pin")).body["cache"] == cache


async def test_only_a_collection_that_is_there_is_pinned(client):
    await client.refused(
        "POST", "/collections/none/cache/pin", None, status=404, code="collection_not_found", says="none"
    )
