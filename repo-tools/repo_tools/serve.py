"""`repo-tools serve`: a static server in the foreground, until it is told to stop."""

import signal
import threading
from pathlib import Path
from types import FrameType

import click

from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.server import StaticServer, open_server


def announce(server: StaticServer, directory: Path) -> None:
    """Say what is served where."""
    if wants_json():
        print_json({"directory": str(directory), "url": server.url})
    else:
        click.echo(f"Serving {directory} at {server.url} (Ctrl-C stops)")


def serve_until_stopped(server: StaticServer) -> None:
    """Serve until Ctrl-C or a termination signal, then close."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts: another thread must call it.
        threading.Thread(target=server.shutdown).start()

    with server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        server.serve_forever(poll_interval=0.05)


@click.command(
    "serve",
    epilog="""\b
Examples:
  repo-tools serve /srv/updates
  repo-tools serve /srv/updates --port 9000 --log""",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port on loopback; 0 takes a free one.",
)
@click.option("--log", "log_requests", is_flag=True, help="Write each request to stderr.")
def serve(directory: Path, port: int, *, log_requests: bool) -> None:
    """Serve the files in DIRECTORY over HTTP on loopback, for trials.

    Answers range requests, so that interrupted downloads go on where they ended. Hidden files are
    not served and directories are not listed.
    """
    server = open_server(directory, port=port, log_requests=log_requests)
    announce(server, directory)
    serve_until_stopped(server)
