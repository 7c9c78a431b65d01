"""What nodes of a cluster ask of each other: no part of the documented interface, and there where a token is set."""

from __future__ import annotations

import hmac

from aiohttp import web

from akidb.api import body as bodies
from akidb.api.errors import refuse
from akidb.api.peers import CONTENT_TYPE, HEADER, PATH, digest_of, signed_digest
from akidb.api.service import SERVICE
from akidb.collection import decode_forwarded, encode_done


async def put_batch(request: web.Request) -> web.Response:
    """Puts a batch for another node, which knows the cluster's token; asked before anything of the body is read."""
    service = request.app[SERVICE]
    token = service.settings.cluster.token
    digest = None if token is None else signed_digest(token, request.headers.get(HEADER, ""))
    if digest is None:
        raise refuse("unauthorized", (), f"only nodes with the same cluster.token ask this, and show it by {HEADER}")
    body = await bodies.receive(request)
    if not hmac.compare_digest(digest, await digest_of(body)):
        raise refuse("unauthorized", (), f"the body is not the one that {HEADER} was made for")
    message = await service.parse(body, lambda: decode_forwarded(body))
    database = service.require()
    collection = await database.collection(message.collection, at_hand=True)
    if all(shard.uuid != message.shard for shard in collection.shards):  # dropped and made anew, perhaps
        collection = await database.collection(message.collection)

    def wanted() -> bool:
        return request.transport is not None and not request.transport.is_closing()

    done = await collection.receive(message, wanted)
    return web.Response(body=encode_done(done), content_type=CONTENT_TYPE)


def add_to(app: web.Application) -> None:
    app.router.add_post(PATH, put_batch)
