"""How a node speaks to others of its store: who they are, and batches sent to them over HTTP.

Who sends a batch shows that it knows the cluster's token without telling it: a header has the SHA-256 of the body and,
keyed with the token, the HMAC of that (RFC 2104). So who listens learns no secret, and who sends a batch a second time
does nothing that was done: it is in the log already, or made too long ago. One that was refused may be done by that,
and answers are not signed: where others can listen or answer, addresses are to be https.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from uuid import UUID

import aiohttp
from yarl import URL

from akidb.api.codes import CODES
from akidb.api.errors import CONTENT_TYPE as PROBLEM_TYPE
from akidb.client.problems import code_of, error_of
from akidb.collection.forwarding import JUDGED
from akidb.config import Settings
from akidb.database import Database
from akidb.database.members import Members
from akidb.errors import AkiDBError, CorruptionError, DeadlineExceededError, UnavailableError
from akidb.storage import ObjectStore
from akidb.telemetry.logging import request_id

PATH = "/cluster/batches"
HEADER = "X-AkiDB-Cluster"
CONTENT_TYPE = "application/x-msgpack"

INLINE_BYTES_MAX = 256 << 10
"""Larger bodies are summed up in a thread: it takes longer than the event loop may stand still."""

CONNECTIONS_MAX = 100
"""To one node."""

CONNECT_SECS = 1.0
ANSWER_SECS = 0.5
"""How much longer than the node itself has its answer is waited for: it tells more than none."""

_PURPOSE = b"akidb forwarded batch 1 "
_OF_THE_BATCH = JUDGED | {
    "not_taken", "deadline_exceeded", "outcome_unknown", "storage_full", "collection_not_found", "warming",
}  # fmt: skip
"""What a node may answer that is well, and takes the next one."""


async def digest_of(body: bytes) -> str:
    """SHA-256 in hex."""
    if len(body) <= INLINE_BYTES_MAX:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def signature(token: str, digest: str) -> str:
    """What HEADER holds for a body of this digest."""
    code = hmac.new(token.encode("utf-8", "surrogateescape"), _PURPOSE + digest.encode(), hashlib.sha256)
    return f"{digest}.{code.hexdigest()}"


def signed_digest(token: str, header: str) -> str | None:
    """The digest that somebody who knows the token put into the header; None if nobody did."""
    digest = header.partition(".")[0]
    expected = signature(token, digest) if digest.isascii() else ""
    sent = header.encode("utf-8", "surrogateescape")
    return digest if hmac.compare_digest(sent, expected.encode()) and expected else None


class HttpPeers:
    """The other nodes as akidb.collection.Peers asks for them."""

    def __init__(self, members: Members, token: str) -> None:
        self._members = members
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    def owner(self, shard: UUID) -> str | None:
        return self._members.owner(shard)

    async def leave(self) -> None:
        """Owns nothing any more."""
        await self._members.leave()

    async def send(self, node: str, body: bytes, timeout_secs: float) -> bytes:
        """As Peers.send; a node that does not take the batch for a reason of its own is left alone for a while."""
        headers = {HEADER: signature(self._token, await digest_of(body)), "Content-Type": CONTENT_TYPE}
        if request_id.get() is not None:
            headers["X-Request-ID"] = request_id.get() or ""
        total_secs = timeout_secs + min(ANSWER_SECS, timeout_secs / 2)
        timeout = aiohttp.ClientTimeout(total=total_secs, sock_connect=min(CONNECT_SECS, timeout_secs))
        if self._session is None:
            # Of each node its own: else who waits behind one that stands still would take the others for lost.
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS_MAX)
            self._session = aiohttp.ClientSession(connector=connector)
        failed: AkiDBError
        try:
            async with self._session.post(
                URL(node).with_path(PATH), data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                received = await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:  # so nothing was sent
            failed = UnavailableError(f"{node} can't be reached: {error}", code="not_taken")
        except (aiohttp.ClientError, OSError) as error:  # asyncio's TimeoutError is an OSError
            failed = DeadlineExceededError(f"no answer: {str(error) or type(error).__name__}", code="outcome_unknown")
        else:
            if answer.status == 200:
                return received
            failed = _refusal(answer, received)
            if failed.code in _OF_THE_BATCH:
                raise failed
        self._members.doubt(node, failed)
        raise failed

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> AkiDBError:
    """What another answer than success says. Only a node's own problem document says that nothing was done."""
    told = error_of(answer.status, body, call=f"POST {answer.url}", retry_after=None)
    ours = answer.content_type == PROBLEM_TYPE and code_of(body) in CODES  # gateways send problem documents as well
    if not ours or answer.status == 500 or isinstance(told, CorruptionError):  # damage may be met once the slot is won
        return DeadlineExceededError(f"status {answer.status}: {told}", code="outcome_unknown")
    return told


def join(database: Database, store: ObjectStore, settings: Settings) -> HttpPeers | None:
    """Makes the database one of a cluster's, if the settings say so."""
    address, token = settings.cluster.node_address, settings.cluster.token
    if address is None or token is None:
        return None
    members = Members(store, address.rstrip("/"))
    peers = HttpPeers(members, token)
    members.begin()
    database.peers = peers
    return peers
