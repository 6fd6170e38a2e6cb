"""The `repo-tools` command: its groups, and how any error leaves the program.

The only module of this package that exits. Each command is a file of its own, loaded when it runs.
"""

import signal
import sys
from typing import Final, NoReturn

import click

from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup
from signpost.errors import SignpostError
from updog.errors import UpdogError

_COMMANDS: Final = {
    "key": LazyCommand(
        module="repo_tools.key.group",
        attribute="key",
        summary="Private keys as files, and which keys there are.",
    ),
    "root": LazyCommand(
        module="repo_tools.root.group",
        attribute="root",
        summary="Who may sign what: keys, thresholds, expiry, and their ceremony.",
    ),
    "release": LazyCommand(
        module="repo_tools.release.group",
        attribute="release",
        summary="What is offered to machines: add, withdraw, list.",
    ),
    "migrations": LazyCommand(
        module="repo_tools.migrations.group",
        attribute="migrations",
        summary="What runs on a machine between two versions.",
    ),
    "max-version": LazyCommand(
        module="repo_tools.max_version.group",
        attribute="max_version",
        summary="How far up machines may go.",
    ),
    "waves": LazyCommand(
        module="repo_tools.waves.group",
        attribute="waves",
        summary="Rollouts: set, show, pause, resume, accelerate.",
    ),
    "publish": LazyCommand(
        module="repo_tools.publish",
        attribute="command",
        summary="Make the draft public.",
    ),
    "refresh": LazyCommand(
        module="repo_tools.refresh",
        attribute="command",
        summary="Sign anew what is about to expire; for a timer.",
    ),
    "check-expirations": LazyCommand(
        module="repo_tools.check_expirations",
        attribute="command",
        summary="Fail if metadata expires soon; for a monitor.",
    ),
    "image": LazyCommand(
        module="repo_tools.image.group",
        attribute="image",
        summary="Make root, hash and boot images and whole disks; look into them.",
    ),
    "playground": LazyCommand(
        module="repo_tools.playground.group",
        attribute="playground",
        summary="A machine made of files, with a publisher, to try updates on.",
    ),
    "clone": LazyCommand(
        module="repo_tools.clone",
        attribute="clone",
        summary="Mirror a repository.",
    ),
    "export": LazyCommand(
        module="repo_tools.export",
        attribute="export",
        summary="Put a repository, or one machine's part of it, into one file.",
    ),
    "import": LazyCommand(
        module="repo_tools.importing",
        attribute="import_",
        summary="Take a repository out of such a file.",
    ),
    "serve": LazyCommand(
        module="repo_tools.serve",
        attribute="serve",
        summary="Serve a directory over HTTP on loopback, for trials.",
    ),
    "simulate": LazyCommand(
        module="repo_tools.simulate",
        attribute="simulate",
        summary="Play a rollout over a fleet before it starts.",
    ),
    "validate": LazyCommand(
        module="repo_tools.validate",
        attribute="validate",
        summary="Walk a repository as a client would, and say what is wrong.",
    ),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  repo-tools playground create
  repo-tools playground --help
  repo-tools serve /srv/updates

Exit codes: 0 done; 1 failed; 2 usage.""",
)
@click.version_option(package_name="ab-updog", prog_name="repo-tools")
def cli(**_shared: object) -> None:
    """Build releases and repositories for updog, and try them out."""


def main() -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli()
    except (RepoToolsError, SignpostError, UpdogError) as error:
        _fail(str(error))
    except OSError as error:
        # A full disk or a forbidden directory may show itself at any write.
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"a file could not be read or written: {error.strerror or error}{where}")
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    click.echo(f"repo-tools: {message}", err=True)
    sys.exit(1)
