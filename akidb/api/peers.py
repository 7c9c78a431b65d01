"""How a node speaks to others of its store: who they are, and batches sent to them over HTTP.

Who sends a batch shows that it knows the cluster's token without telling it: a header has the SHA-256 of the body, a
nonce and, keyed with the token, the HMAC of both (RFC 2104). Who answers shows it as well, by the HMAC of that header,
the status and the body. An answer without it is taken for none: whoever gave it, the batch may be written or not.

So who listens learns no secret, who answers in a node's place acknowledges and refuses nothing, and who sends a batch a
second time does nothing that was done: it is in the log already, or made too long ago. One that was refused may be done
by that, and what is sent can be read: where others can listen, addresses are to be https.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from uuid import UUID

import aiohttp
from yarl import URL

from akidb.api.codes import CODES
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

_BATCH, _ANSWER = "akidb-forwarded-batch-1", "akidb-answer-to-forwarded-batch-1"
_OF_THE_BATCH = JUDGED | {
    "not_taken", "deadline_exceeded", "outcome_unknown", "storage_full", "collection_not_found", "warming",
}  # fmt: skip
"""What a node may answer that is well, and takes the next one."""


async def digest_of(body: bytes) -> str:
    """SHA-256 in hex."""
    if len(body) <= INLINE_BYTES_MAX:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def signature(token: str, digest: str, nonce: str) -> str:
    """What HEADER holds for a body of this digest. Without a `nonce` of its own, one's answer were another's."""
    return f"{digest}.{nonce}.{_code(token, _BATCH, digest, nonce)}"


def signed_digest(token: str, header: str) -> str | None:
    """The digest that somebody who knows the token put into the header; None if nobody did."""
    digest, _, rest = header.partition(".")
    expected = signature(token, digest, rest.partition(".")[0]) if header.isascii() else ""
    return digest if expected and hmac.compare_digest(header, expected) else None


def answer_signature(token: str, asked: str, status: int, body: bytes) -> str:
    """What HEADER of an answer holds; `asked` is the request's."""
    return _code(token, _ANSWER, asked, str(status), hashlib.sha256(body).hexdigest())


def _code(token: str, *words: str) -> str:
    """Of words without spaces: no two lists of them are the same text."""
    return hmac.new(token.encode("utf-8", "surrogateescape"), " ".join(words).encode(), hashlib.sha256).hexdigest()


_HINT = "all nodes of a cluster need the same (AKIDB_CLUSTER_TOKEN)"


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
        signed = signature(self._token, await digest_of(body), secrets.token_hex(16))
        headers = {HEADER: signed, "Content-Type": CONTENT_TYPE}
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
        except TimeoutError:
            failed = DeadlineExceededError(f"no answer within {total_secs:g} s", code="outcome_unknown")
        except (aiohttp.ClientError, OSError) as error:
            failed = DeadlineExceededError(f"no answer: {str(error) or type(error).__name__}", code="outcome_unknown")
        else:
            if not self._is_of_a_node(signed, answer, received):
                told = f"an answer of status {answer.status} that is not signed with this node's cluster.token: {_HINT}"
                failed = DeadlineExceededError(told, code="outcome_unknown")
            elif answer.status == 200:
                return received
            else:
                failed = _refusal(answer, received)
                if failed.code in _OF_THE_BATCH:
                    raise failed
        self._members.doubt(node, failed)
        raise failed

    def _is_of_a_node(self, signed: str, answer: aiohttp.ClientResponse, body: bytes) -> bool:
        told = answer.headers.get(HEADER, "")
        return told.isascii() and hmac.compare_digest(told, answer_signature(self._token, signed, answer.status, body))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> AkiDBError:
    """What a node's other answer than success says. A code of a newer node's, not known here, may mean anything."""
    told = error_of(answer.status, body, call=f"POST {answer.url}", retry_after=None)
    unknown = answer.status == 500 or isinstance(told, CorruptionError)  # damage may be met once the slot is won
    if unknown or code_of(body) not in CODES:
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
