"""The draft of a root, on its way through the hands of those who sign it.

One file holds all that they need, so that it can be carried to a machine without a network: the
root to sign, the signatures so far, and the root before it, whose keys must sign too
(TUF specification 1.0.33, 5.3.4). Decides who has signed, who is missing and when it is enough.
Refuses a signature by a key that neither root lists, and signatures of something else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from repo_tools.errors import RepoToolsError
from repo_tools.policy import ROLES
from repo_tools.root.change import short
from repo_tools.signers import sign
from updog.names import printable

FORMAT = 1
_NOTE = "the draft of a root: look at it with `repo-tools root show`, sign it with `root sign`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """The keys that one of the two roots wants signatures of."""

    version: int
    """Of the root that lists them."""
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def lacks(self) -> int:
        """How many more must sign."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A root to be signed. `previous` is None for the first one."""

    previous: Metadata[Root] | None
    root: Metadata[Root]

    @property
    def version(self) -> int:
        """The version of the root to be signed."""
        return self.root.signed.version

    @property
    def digest(self) -> str:
        """The sha256 of the bytes that are signed."""
        return hashlib.sha256(self.root.signed_bytes).hexdigest()

    @property
    def previous_digest(self) -> str | None:
        """The sha256 of the bytes that were signed of the root before."""
        return hashlib.sha256(self.previous.signed_bytes).hexdigest() if self.previous else None

    @property
    def quorums(self) -> tuple[Quorum, ...]:
        """Whose signatures it needs: of the root before, and of its own."""
        roots = [self.previous.signed] if self.previous else []
        return tuple(self._quorum(root) for root in (*roots, self.root.signed))

    @property
    def is_complete(self) -> bool:
        """Whether clients would take it."""
        return not any(quorum.lacks for quorum in self.quorums)

    def signing_key(self, keyid: str) -> Key | None:
        """Return the key of an id if a signature by it counts."""
        roots = [self.previous.signed] if self.previous else []
        for root in (*roots, self.root.signed):
            if keyid in root.roles[Root.type].keyids and keyid in root.keys:
                return root.keys[keyid]
        return None

    def to_bytes(self) -> bytes:
        """Return the draft as a file holds it."""
        previous = self.previous.to_dict() if self.previous else None
        document = {
            "about": _NOTE,
            "format": FORMAT,
            "previous": previous,
            "root": self.root.to_dict(),
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    def _quorum(self, root: Root) -> Quorum:
        result = root.get_verification_result(
            Root.type, self.root.signed_bytes, self.root.signatures
        )
        return Quorum(
            version=root.version,
            threshold=result.threshold,
            signed=tuple(result.signed),
            missing=tuple(result.unsigned),
        )


def root_bytes(draft: Draft) -> bytes:
    """Return the root as clients are served it."""
    return JSONSerializer(compact=False).serialize(draft.root)


def parse_draft(data: bytes, *, what: str) -> Draft:
    """Read the draft of a root.

    Raises:
        RepoToolsError: it is none.
    """
    try:
        draft = _parse(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = printable(str(error))
        raise RepoToolsError(f"{what} is not the draft of a root: {why}") from error
    return draft


def _parse(document: object) -> Draft:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("it is of another format")
    previous = document["previous"]
    draft = Draft(
        previous=_parse_root(previous) if previous is not None else None,
        root=_parse_root(document["root"]),
    )
    _require_sequence(draft)
    return draft


def parse_root(data: bytes, *, what: str) -> Metadata[Root]:
    """Read root metadata.

    Raises:
        RepoToolsError: it is none.
    """
    try:
        return _as_root(Metadata[Root].from_bytes(data))
    except (RepositoryError, ValueError) as error:
        raise RepoToolsError(f"{what} is not root metadata: {printable(str(error))}") from error


def _parse_root(document: dict[str, Any]) -> Metadata[Root]:
    return _as_root(Metadata[Root].from_dict(document))


def _as_root(metadata: Metadata[Any]) -> Metadata[Root]:
    if not isinstance(metadata.signed, Root):
        raise ValueError(f"it is {metadata.signed.type} metadata")  # noqa: TRY004 -- of a file
    return metadata


def _require_sequence(draft: Draft) -> None:
    """Each root follows the one before (TUF specification 1.0.33, 5.3.5)."""
    before = draft.previous.signed.version if draft.previous else 0
    if draft.version != before + 1:
        raise ValueError(f"root {draft.version} cannot follow root {before}")


def signed_by(draft: Draft, signer: Signer, *, what: str) -> Draft:
    """Return the draft with one more signature; one that is there already stays.

    Raises:
        RepoToolsError: neither root lists the key, or it did not sign.
    """
    keyid = signer.public_key.keyid
    key = draft.signing_key(keyid)
    if key is None:
        raise RepoToolsError(f"{_unlisted(draft, keyid, what)}; nothing was signed")
    if keyid in _signers(draft):
        return draft
    root = Metadata(draft.root.signed, dict(draft.root.signatures))
    signature = sign(root, signer)
    if not _is_valid(signature, key, root.signed_bytes):
        raise RepoToolsError(
            f"the signature by {what} does not verify with its public key {short(keyid)}; "
            f"nothing was signed"
        )
    return Draft(previous=draft.previous, root=root)


def _unlisted(draft: Draft, keyid: str, what: str) -> str:
    versions = [quorum.version for quorum in draft.quorums]
    others = [role for role in ROLES if keyid in draft.root.signed.roles[role].keyids]
    instead = f", only for {', '.join(others)}" if others else ""
    lists = (
        f"root {versions[0]} does not list"
        if len(versions) == 1
        else (f"neither root {versions[0]} nor root {versions[1]} lists")
    )
    return f"{lists} {what} (key {short(keyid)}) for root{instead}"


def merged(draft: Draft, other: Draft, *, what: str) -> Draft:
    """Return the draft with the signatures of a copy that somebody else signed.

    Raises:
        RepoToolsError: it is another root that they signed, or they did not sign.
    """
    if other.root.signed_bytes != draft.root.signed_bytes:
        raise RepoToolsError(
            f"{what} holds another root than the one to sign (sha256 {other.digest[:16]}..., "
            f"not {draft.digest[:16]}...); nothing was taken from it"
        )
    signatures = dict(draft.root.signatures)
    there = _signers(draft)
    new = {
        keyid: signature
        for keyid, signature in other.root.signatures.items()
        if keyid not in there and _counts(draft, keyid, signature)
    }
    if not new and not set(other.root.signatures) & there:
        raise RepoToolsError(f"{what} holds no signature that counts; nothing was taken from it")
    return Draft(previous=draft.previous, root=Metadata(draft.root.signed, signatures | new))


def without_worthless(draft: Draft) -> Draft:
    """Return the draft with only those signatures that count."""
    kept: Mapping[str, Signature] = {
        keyid: signature
        for keyid, signature in draft.root.signatures.items()
        if _counts(draft, keyid, signature)
    }
    return Draft(previous=draft.previous, root=Metadata(draft.root.signed, dict(kept)))


def _counts(draft: Draft, keyid: str, signature: Signature) -> bool:
    key = draft.signing_key(keyid)
    return key is not None and _is_valid(signature, key, draft.root.signed_bytes)


def _signers(draft: Draft) -> set[str]:
    return {keyid for quorum in draft.quorums for keyid in quorum.signed}


def _is_valid(signature: Signature, key: Key, payload: bytes) -> bool:
    try:
        key.verify_signature(signature, payload)
    except UnverifiedSignatureError:
        return False
    return True
