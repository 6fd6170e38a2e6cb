"""The client under test, as the public TUF conformance suite calls one: `updog.metadata` alone.

    client.py --metadata-dir D init ROOT
    client.py --metadata-dir D --metadata-url U refresh
    client.py --metadata-dir D --metadata-url U --target-name N --target-base-url U
              --target-dir D download

Exit code 0 if all went well, 1 if not, with the reason on stderr. The protocol is that of
CLIENT-CLI.md in https://github.com/theupdateframework/tuf-conformance. By design this client
refuses target names that hold a slash.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from updog.errors import ImageError, UpdogError
from updog.metadata import Repository, Target
from updog.patience import Limits
from updog.proof import require_content
from updog.transport import Transport


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser.parse_args(arguments)


def trusted_root(options: Namespace) -> Path:
    """Return where the shipped root lies: not in the cache, which is replaced as a whole."""
    directory: Path = options.metadata_dir
    return directory.with_name(f"{directory.name}.shipped-root.json")


def initialise(options: Namespace) -> None:
    data = options.trusted_root.read_bytes()
    trusted_root(options).write_bytes(data)
    options.metadata_dir.mkdir(parents=True, exist_ok=True)
    (options.metadata_dir / "root.json").write_bytes(data)


def refresh(options: Namespace) -> None:
    with Transport(limits=Limits(attempts=1)) as transport:
        repository = Repository(
            trusted_root=trusted_root(options).read_bytes(),
            cache=options.metadata_dir,
            metadata_base_url=options.metadata_url,
            targets_base_url=options.target_base_url,
            transport=transport,
        )
        repository.refresh()
        if options.command == "download":
            download(repository, repository.target(options.target_name), options.target_dir)


def download(repository: Repository, target: Target, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / target.name
    if not is_there(target, path):
        repository.save(target, path)


def is_there(target: Target, path: Path) -> bool:
    try:
        require_content(path, target)
    except (OSError, ImageError):
        return False
    return True


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        if options.command == "init":
            initialise(options)
        else:
            refresh(options)
    except (UpdogError, OSError) as err:
        sys.stderr.write(f"{err}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
