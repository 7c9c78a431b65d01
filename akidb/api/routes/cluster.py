"""What nodes of a cluster ask of each other: no part of the documented interface, and there where a token is set."""

from __future__ import annotations

import hmac

from aiohttp import web

from akidb.api import body as bodies
from akidb.api.errors import refuse
from akidb.api.peers import CONTENT_TYPE, HEADER, PATH, answer_signature, digest_of, signed_digest
from akidb.api.service import SERVICE
from akidb.collection import decode_forwarded, encode_done

_ASKED = web.RequestKey("akidb_cluster_asked", str)
"""HEADER of a request that somebody made who knows the token."""


async def put_batch(request: web.Request) -> web.Response:
    """Puts a batch for another node, which knows the cluster's token; asked before anything of the body is read."""
    service = request.app[SERVICE]
    token = service.settings.cluster.token
    asked = request.headers.get(HEADER, "")
    digest = None if token is None else signed_digest(token, asked)
    if digest is None:
        raise refuse("unauthorized", (), f"only nodes with the same cluster.token ask this, and show it by {HEADER}")
    body = await bodies.receive(request)
    if not hmac.compare_digest(digest, await digest_of(body)):
        raise refuse("unauthorized", (), f"the body is not the one that {HEADER} was made for")
    request[_ASKED] = asked  # not before: the refusal of another body would tell of the batch that asked is of
    message = await service.parse(body, lambda: decode_forwarded(body))
    database = service.require()
    collection = await database.collection(message.collection, at_hand=True)
    if all(shard.uuid != message.shard for shard in collection.shards):  # dropped and made anew, perhaps
        collection = await database.collection(message.collection)

    def wanted() -> bool:
        return request.transport is not None and not request.transport.is_closing()

    done = await collection.receive(message, wanted)
    return web.Response(body=encode_done(done), content_type=CONTENT_TYPE)


async def sign(request: web.Request, response: web.StreamResponse) -> None:
    """Signs what a node is answered, success or refusal, whoever made it: what is not signed counts as lost."""
    token = request.app[SERVICE].settings.cluster.token
    if token is not None and _ASKED in request and isinstance(response, web.Response):
        body = response.body if isinstance(response.body, bytes) else b""
        response.headers[HEADER] = answer_signature(token, request[_ASKED], response.status, body)


def add_to(app: web.Application) -> None:
    app.router.add_post(PATH, put_batch)
    app.on_response_prepare.append(sign)
