"""What is wrong, or soon will be, with metadata that is proven. Pure.

Decides about expiry, about what stricter clients than this project's refuse (the Rust client of the
cloned system among them), about roots that are gone, and about names that lead out of a directory.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from securesystemslib.formats import encode_canonical

from repo_tools.findings import Finding, fault, warning
from repo_tools.offer import Collected, Offer
from updog.names import is_target_name, quoted
from updog.units import duration

MOST_ROOT_BYTES: Final = 500_000
"""Clients stop reading a root there (python-tuf at 512000)."""

_WHOLE_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_KEY_FIELDS: Final = frozenset({"keytype", "scheme", "keyval"})


def check_metadata(offer: Offer, *, now: datetime, horizon: timedelta) -> Iterator[Finding]:
    """Look at the roles of a proven repository.

    Args:
        offer: the repository.
        now: the time, with a zone.
        horizon: a role that has less than this left is warned of.
    """
    yield from _check_expiries(offer.expiries(), now, horizon)
    yield from _check_roots(offer.collected)
    for name, text in offer.faults.items():
        yield fault(name if is_target_name(name) else quoted(name), text)
    for name in offer.targets:
        if not is_target_name(name):
            yield fault(quoted(name), "no flat file name of letters, digits and . _ + -")


def check_strictness(collected: Collected) -> Iterator[Finding]:
    """Look at what stricter clients refuse, in metadata that need not be proven."""
    for name, data in collected.files.items():
        signed = json.loads(data).get("signed", {})
        expires = str(signed.get("expires"))
        if not _WHOLE_SECOND.fullmatch(expires):
            yield warning(name, f"expires at {quoted(expires)}, which is no whole second in UTC")
        keys = signed.get("keys") or (signed.get("delegations") or {}).get("keys") or {}
        yield from _check_keys(name, keys)
        if name.endswith(".root.json") and len(data) > MOST_ROOT_BYTES:
            yield warning(name, f"holds {len(data)} bytes; some clients read {MOST_ROOT_BYTES}")


def _check_expiries(
    expiries: Mapping[str, datetime], now: datetime, horizon: timedelta
) -> Iterator[Finding]:
    for role, expires in sorted(expiries.items(), key=lambda item: item[1]):
        left, when = expires - now, f"{expires:%Y-%m-%d %H:%M} UTC"
        if left <= timedelta():
            yield fault(role, f"expired on {when}: no client follows it; sign it anew")
        elif left < horizon:
            yield warning(role, f"expires in {duration(left)}, on {when}; sign it anew")


def _check_roots(collected: Collected) -> Iterator[Finding]:
    lowest = min(collected.roots, default=1)
    if lowest > 1:
        gone = "1.root.json" if lowest == 2 else f"1.root.json to {lowest - 1}.root.json"
        yield warning("root", f"{gone} missing: machines that came with an older root are lost")


def _check_keys(name: str, keys: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare each key's id with the digest that stricter clients compute (TUF 1.0.33, 4.2)."""
    for key_id, key in keys.items():
        canonical = hashlib.sha256((encode_canonical(key) or "").encode()).hexdigest()
        extra = sorted(key.keys() - _KEY_FIELDS)
        if extra:
            yield warning(name, f"key {key_id[:16]}... has the extra field {quoted(extra[0])}")
        if canonical != key_id:
            yield warning(
                name, f"key {key_id[:16]}... is not named by the sha256 of its canonical form"
            )
