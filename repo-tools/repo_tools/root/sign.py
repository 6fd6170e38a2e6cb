"""`repo-tools root sign`: signatures for a draft, until there are enough."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.passphrases import Passphrases
from repo_tools.policy import Policy, load_policy
from repo_tools.root.ceremony import Draft, merged, parse_root, signed_by
from repo_tools.root.change import require_sound
from repo_tools.root.options import dry_run_option, passphrase_option
from repo_tools.root.place import (
    alone,
    draft_path,
    hand_over,
    place,
    read_draft,
    require_next,
    write_draft,
)
from repo_tools.root.wording import facts, lines, state
from repo_tools.signers import RoleSigners, as_uri, load_signer
from repo_tools.telling import telling

_LEAST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ceremony:
    """Which draft is signed, and the publisher that it belongs to, if it is here."""

    path: Path
    policy: Policy | None

    def draft(self) -> Draft:
        draft = read_draft(self.path)
        if draft is None:
            raise RepoToolsError(
                f"there is nothing to sign: no {self.path}; `repo-tools root create` or `root "
                f"rotate` drafts a root"
            )
        return draft


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of it. `placed` is where the root stands, if it is complete and belongs here."""

    draft: Draft
    placed: Path | None = None
    signed_anew: bool = False
    """Whether the keys of both roots have signed what is published."""


@click.command(
    "sign",
    epilog="""\b
Examples:
  repo-tools root sign --key keys/ann.pem
  repo-tools root sign /media/usb/next-root.json --key hsm:2
  repo-tools root sign --import from-ann.json --import from-bob.json""",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@publisher_option
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Sign with it: a private PEM file or a signer URI. Repeat it. "
    "[default: keys.root of publisher.toml]",
)
@click.option(
    "--import",
    "copies",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Take the signatures out of a signed copy. Repeat it.",
)
@click.option(
    "--digest",
    metavar="HEX",
    help=f"Sign nothing but what has this sha256 (its first {_LEAST_DIGITS} digits are enough).",
)
@click.option(
    "--trusted-root",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The root before, as you know it: sign nothing that follows another.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether what is shown shall be signed.")
@click.option(
    "--before-publish",
    is_flag=True,
    help="Put it in place even if clients refuse what is published until the next publish.",
)
@passphrase_option
@dry_run_option
def command(  # noqa: PLR0913 -- an option each
    *,
    file: Path | None,
    publisher: Path,
    keys: Sequence[str],
    copies: Sequence[Path],
    digest: str | None,
    trusted_root: Path | None,
    passphrase_file: Path | None,
    yes: bool,
    before_publish: bool,
    dry_run: bool,
) -> None:
    """Sign the draft of a root, after it was shown; put it in place when enough have signed.

    With FILE, a draft that was carried somewhere else is signed there, and nothing else is needed.
    What it changes is told by the root before, which the file holds too: compare its digest with
    what you know, or name your own copy by --trusted-root. Signing again with the same key changes
    nothing.

    Where the new root lists other keys for what is published, the keys that publisher.toml names
    sign that anew before: name the old and the new ones, so that every client can follow.
    """
    now = datetime.now(UTC)
    ceremony = _find(file, publisher)
    shown = ceremony.draft()
    if ceremony.policy:
        require_next(ceremony.policy.repository, shown)
    if trusted_root:
        _require_follows(shown, trusted_root)
    _require_signable(shown, digest, now=now)
    uris = _signing_keys(keys, copies, ceremony.policy, shown)
    if uris:
        _show(shown, now=now)
    if uris and not yes and not dry_run:
        _agree(shown)
    passphrases = Passphrases(passphrase_file)
    additions = _additions(shown, uris, copies, passphrases=passphrases)
    if dry_run:
        _report(ceremony, _Outcome(draft=additions), dry_run=True)
        return
    left = "run it again; the draft is as it was, or holds the new signatures too"
    with telling("sign", ceremony.path, left=left), alone(ceremony.path.parent):
        draft = _joined(ceremony.draft(), additions)
        write_draft(ceremony.path, draft)
        outcome = _Outcome(draft=draft)
        if ceremony.policy and draft.is_complete:
            outcome = _take_over(
                ceremony.policy,
                draft,
                now=now,
                passphrases=passphrases,
                before_publish=before_publish,
            )
            ceremony.path.unlink()
    _report(ceremony, outcome, dry_run=False)


def _find(file: Path | None, publisher: Path) -> _Ceremony:
    if file is not None:
        return _Ceremony(path=file, policy=None)
    policy = load_policy(publisher)
    return _Ceremony(path=draft_path(policy), policy=policy)


def _require_follows(draft: Draft, path: Path) -> None:
    """Refuse a draft whose changes are told by another root than the one that somebody knows."""
    try:
        known = parse_root(path.read_bytes(), what=str(path))
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    if draft.previous is None or draft.previous.signed_bytes != known.signed_bytes:
        raise RepoToolsError(
            f"the draft of root {draft.version} does not follow root {known.signed.version} in "
            f"{path}; nothing was signed"
        )


def _require_signable(draft: Draft, digest: str | None, *, now: datetime) -> None:
    previous = draft.previous.signed if draft.previous else None
    require_sound(draft.root.signed, previous=previous, now=now)
    if digest is None:
        return
    wanted = digest.lower()
    if len(wanted) < _LEAST_DIGITS or not draft.digest.startswith(wanted):
        raise RepoToolsError(
            f"the draft of root {draft.version} is not the one to sign: its sha256 is "
            f"{draft.digest}, not {wanted} (at least {_LEAST_DIGITS} digits); nothing was signed"
        )


def _show(draft: Draft, *, now: datetime) -> None:
    for line in lines(draft, now=now, placed=False):
        click.echo(line, err=wants_json())


def _signing_keys(
    chosen: Sequence[str], copies: Sequence[Path], policy: Policy | None, draft: Draft
) -> list[str]:
    """Return the URIs to sign with; none where signatures are only collected."""
    if chosen:
        return [as_uri(key) for key in chosen]
    if copies or draft.is_complete:
        return []
    uris = list(policy.keys.get("root", ())) if policy else []
    if not uris:
        raise RepoToolsError(
            f"root {draft.version} is {state(draft)}; name a key by --key, or copies that others "
            f"have signed by --import"
        )
    return uris


def _agree(draft: Draft) -> None:
    """Ask whether what was shown shall be signed.

    Raises:
        RepoToolsError: the answer is no, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise RepoToolsError(
            "nobody is here to agree to what would be signed: say --yes, best with --digest "
            f"{draft.digest[:_LEAST_DIGITS]}; nothing was signed"
        )
    if not click.confirm(f"Sign root {draft.version}?", err=True):
        raise RepoToolsError("nothing was signed")


def _additions(
    shown: Draft, uris: Sequence[str], copies: Sequence[Path], *, passphrases: Passphrases
) -> Draft:
    """Return what was shown, with the signatures of copies and of keys."""
    draft = shown
    for path in copies:
        copy = read_draft(path)
        if copy is None:
            raise RepoToolsError(f"cannot read {path}: there is no such file; nothing was taken")
        draft = merged(draft, copy, what=str(path))
    # All of them, before any signs: a wrong passphrase of the second leaves no half.
    signers = [(uri, load_signer(uri, passphrases=passphrases)) for uri in uris]
    for uri, signer in signers:
        draft = signed_by(draft, signer, what=uri)
    return draft


def _joined(draft: Draft, additions: Draft) -> Draft:
    """Add signatures to those in the file by now, if it still holds what was shown."""
    if not additions.root.signatures:
        return draft
    return merged(draft, additions, what="what was shown and signed")


def _take_over(
    policy: Policy,
    draft: Draft,
    *,
    now: datetime,
    passphrases: Passphrases,
    before_publish: bool,
) -> _Outcome:
    """Put a complete root in place, and let its keys sign what is published before, if they can."""
    signed_anew = False
    if draft.previous and not before_publish:
        signers = RoleSigners(keys=policy.keys, passphrases=passphrases)
        signed_anew = hand_over(policy, draft.root.signed, signers=signers, now=now)
    placed = place(policy.repository, draft, now=now, before_publish=before_publish)
    return _Outcome(draft=draft, placed=placed, signed_anew=signed_anew)


def _report(ceremony: _Ceremony, outcome: _Outcome, *, dry_run: bool) -> None:
    draft, placed = outcome.draft, outcome.placed
    if wants_json():
        print_json(
            {
                "path": str(placed or ceremony.path),
                "dry_run": dry_run,
                "signed_anew": outcome.signed_anew,
                "root": facts(draft, placed=placed is not None),
            }
        )
        return
    print_line("State", f"root {draft.version} is {state(draft)}")
    if dry_run:
        print_line("Dry run", "nothing was written")
    elif placed is None:
        print_line("Written", str(ceremony.path))
    if outcome.signed_anew:
        print_line("Published", "what was published, signed by the keys of both roots")
    if placed:
        print_line("Placed", str(placed))
    if placed and draft.version == 1:
        print_line("Next", "give it to every machine as /usr/share/updog/root.json")
