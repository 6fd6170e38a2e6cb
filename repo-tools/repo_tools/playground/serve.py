"""`repo-tools playground serve`: the publisher's web server."""

from pathlib import Path

import click

from repo_tools.errors import AddressInUseError
from repo_tools.playground.options import optional_directory_argument
from repo_tools.playground.place import find_playground
from repo_tools.serve import announce, serve_until_stopped
from repo_tools.server import open_server


@click.command("serve", epilog="\b\nExample:\n  repo-tools playground serve &")
@optional_directory_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port on loopback.  [default: the one that updog.toml names]",
)
@click.option("--log", "log_requests", is_flag=True, help="Write each request to stderr.")
def command(directory: Path, port: int | None, *, log_requests: bool) -> None:
    """Serve the playground's repository on loopback until Ctrl-C."""
    playground = find_playground(directory)
    try:
        server = open_server(
            playground.repository,
            port=playground.port if port is None else port,
            log_requests=log_requests,
        )
    except AddressInUseError as error:
        raise AddressInUseError(
            f"{error}: stop what listens there, or make the playground anew with "
            f"`repo-tools playground create {directory} --force --port ANOTHER`"
        ) from error
    announce(server, directory / playground.repository.name)
    serve_until_stopped(server)
