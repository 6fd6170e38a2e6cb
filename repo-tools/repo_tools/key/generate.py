"""`repo-tools key generate`: new private keys as files."""

from collections.abc import Sequence
from pathlib import Path

import click

from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.keyfiles import (
    LEAST_RSA_BITS,
    MOST_RSA_BITS,
    KeyKind,
    describe,
    generate,
    public_path,
    taken,
    write_keys,
)
from repo_tools.options import print_line
from repo_tools.passphrases import Passphrases
from repo_tools.root.change import short
from repo_tools.root.options import dry_run_option, passphrase_option
from repo_tools.telling import telling


@click.command(
    "generate",
    epilog="""\b
Examples:
  repo-tools key generate keys/ann.pem
  repo-tools key generate keys/targets.pem keys/online.pem --type ecdsa
  repo-tools key generate keys/ci.pem --unencrypted""",
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--type",
    "kind",
    type=click.Choice([str(kind) for kind in KeyKind]),
    default=str(KeyKind.ED25519),
    show_default=True,
    help="ECDSA is on P-256, RSA signs by PSS with SHA-256.",
)
@click.option(
    "--bits",
    type=click.IntRange(LEAST_RSA_BITS, MOST_RSA_BITS),
    default=LEAST_RSA_BITS,
    show_default=True,
    help="Size of an RSA key.",
)
@click.option("--unencrypted", is_flag=True, help="Write keys that anybody with the file can use.")
@passphrase_option
@dry_run_option
def command(  # noqa: PLR0913 -- an option each
    files: Sequence[Path],
    kind: str,
    bits: int,
    passphrase_file: Path | None,
    *,
    unencrypted: bool,
    dry_run: bool,
) -> None:
    """Make a private key in each FILE, and its public half beside it, as NAME.pub.

    Private keys are PKCS #8 in PEM, for their owner alone, encrypted with one passphrase, which is
    asked for twice. The public half is what others need to list the key in a root.
    """
    if unencrypted and passphrase_file:
        raise click.UsageError("--unencrypted and --passphrase-file contradict each other")
    _refuse_clashes(files)
    if dry_run:
        _report([(path, None, None) for path in files], kind)
        return
    passphrase = None if unencrypted else Passphrases(passphrase_file).choose()
    pairs = [(path, generate(KeyKind(kind), rsa_bits=bits)) for path in files]
    with telling("make keys in", files[0].parent, left="no key was made"):
        write_keys(pairs, passphrase=passphrase)
    _report([(path, one.public_key.keyid, describe(one.public_key)) for path, one in pairs], kind)


def _refuse_clashes(files: Sequence[Path]) -> None:
    """Refuse names whose files are there already, or would be one file, before anybody types."""
    names = [name for path in files for name in (path, public_path(path))]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"{name} would be two files: call private keys NAME.pem")
        if name.exists():
            raise taken(name)


def _report(keys: Sequence[tuple[Path, str | None, str | None]], kind: str) -> None:
    if wants_json():
        print_json(
            [
                {"private": str(path), "public": str(public_path(path)), "keyid": keyid}
                for path, keyid, _ in keys
            ]
        )
        return
    for path, keyid, what in keys:
        if keyid is None:
            print_line("Would make", f"{path}, {public_path(path)}: {kind}")
        else:
            print_line("Key", f"{path}, {public_path(path)}: {what}, {short(keyid)}")
