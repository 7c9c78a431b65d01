"""PATCH of a payload: RFC 7396, over JSON text."""

from __future__ import annotations

import msgspec

from akidb.errors import InvalidInputError

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def merge_patch(payload: bytes | None, patch: bytes) -> bytes:
    """The payload after a merge patch; a missing payload counts as {}.

    Members the patch does not name keep their JSON text byte for byte, so no number is respelled. Members keep their
    order, new ones follow. The result is the same on every node, since it depends on the two texts only.

    Args:
        payload: a JSON object, as stored.
        patch: a JSON object that PayloadSchema.check accepted.

    Raises:
        InvalidInputError: `invalid_patch`: the patch is not a JSON object.
    """
    try:
        return _merged(_members(payload or b"{}"), _members(patch))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"patch: is not a JSON object: {error}", code="invalid_patch") from None


def _merged(target: dict[str, msgspec.Raw], patch: dict[str, msgspec.Raw]) -> bytes:
    """MergePatch of RFC 7396, section 2, where both are objects."""
    for name, value in patch.items():
        text = bytes(value)
        if text == b"null":
            target.pop(name, None)
        elif text.startswith(b"{"):
            old = bytes(target.get(name, b""))
            target[name] = msgspec.Raw(_merged(_members(old) if old.startswith(b"{") else {}, _members(text)))
        else:
            target[name] = value
    return msgspec.json.encode(target)
