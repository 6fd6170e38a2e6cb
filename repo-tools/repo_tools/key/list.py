"""`repo-tools key list`: which keys there are, where they are kept, and what the root lets them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from securesystemslib.signer import Key
from tuf.api.metadata import Root

from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.keyfiles import describe, is_encrypted, read_file
from repo_tools.options import publisher_option
from repo_tools.passphrases import Passphrases
from repo_tools.policy import ROLES, load_policy
from repo_tools.root.change import short
from repo_tools.root.options import passphrase_option
from repo_tools.root.place import current_root
from repo_tools.signers import as_uri, find_public_key, is_file, path_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One key, or one place that should hold a key."""

    uri: str | None
    """None for a key of the root that is kept elsewhere."""
    keyid: str | None = None
    kind: str | None = None
    encrypted: bool | None = None
    """Of files: whether a passphrase opens it."""
    roles: tuple[str, ...] = ()
    """What the current root lists it for."""
    problem: str | None = None


@click.command(
    "list",
    epilog="""\b
Examples:
  repo-tools key list
  repo-tools key list keys/ann.pub hsm:2""",
)
@click.argument("keys", nargs=-1, metavar="[KEY...]")
@publisher_option
@passphrase_option
def command(keys: Sequence[str], publisher: Path, passphrase_file: Path | None) -> None:
    """Show each KEY (a PEM file or a signer URI), or without KEY those of the publisher.

    These are the signers that publisher.toml names, and the keys of the current root that are kept
    elsewhere. Private keys stay closed where the public half lies beside them.
    """
    passphrases = Passphrases(passphrase_file)
    if keys:
        rows = [_row(as_uri(key), None, passphrases) for key in keys]
    else:
        rows = list(_of_publisher(publisher, passphrases))
    if wants_json():
        print_json([asdict(row) for row in rows])
    else:
        _print(rows)
    broken = [row for row in rows if row.problem]
    if broken:
        raise RepoToolsError(f"{len(broken)} of {len(rows)} keys cannot be used")


def _of_publisher(publisher: Path, passphrases: Passphrases) -> Iterator[_Row]:
    policy = load_policy(publisher)
    current = current_root(policy.repository)
    root = current.signed if current else None
    here = set()
    for uri in dict.fromkeys(uri for role in ROLES for uri in policy.keys.get(role, ())):
        row = _row(uri, root, passphrases)
        here.add(row.keyid)
        yield row
    for keyid, key in root.keys.items() if root else ():
        if keyid not in here:
            yield _Row(uri=None, keyid=keyid, kind=describe(key), roles=_roles(root, key))


def _row(uri: str, root: Root | None, passphrases: Passphrases) -> _Row:
    try:
        key = find_public_key(uri, passphrases=passphrases)
        encrypted = is_encrypted(read_file(path_of(uri))) if is_file(uri) else None
    except RepoToolsError as error:
        return _Row(uri=uri, problem=str(error))
    return _Row(
        uri=uri,
        keyid=key.keyid,
        kind=describe(key),
        encrypted=encrypted,
        roles=_roles(root, key),
    )


def _roles(root: Root | None, key: Key) -> tuple[str, ...]:
    return tuple(role for role in ROLES if root and key.keyid in root.roles[role].keyids)


def _print(rows: Sequence[_Row]) -> None:
    click.echo(f"{'key':<18}{'kind':<12}{'listed for':<22}kept at")
    for row in rows:
        keyid, kind = short(row.keyid or "?"), row.kind or "?"
        roles = ", ".join(row.roles) or "-"
        click.echo(f"{keyid:<18}{kind:<12}{roles:<22}{_place(row)}")


def _place(row: _Row) -> str:
    if row.problem:
        return row.problem
    if row.uri is None:
        return "elsewhere"
    return f"{row.uri}, not encrypted" if row.encrypted is False else row.uri
