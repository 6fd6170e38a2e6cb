"""`repo-tools migrations set`: the migrations of one step."""

import click
from semver import Version

from repo_tools.changes import SetMigrations, SourceFile
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import parse_version_value, print_line
from repo_tools.sources import find_migrations
from repo_tools.workspace import Target, change_options, make


@click.command(
    "set",
    epilog="""\b
Examples:
  repo-tools migrations set 1.1.0 1.2.0 migrate_v1.2.0_settings
  repo-tools migrations set 1.1.0 1.2.0 migrate_v1.2.0_a.lz4 migrate_v1.2.0_b.lz4 --publish
  repo-tools migrations set 1.1.0 1.2.0""",
)
@click.argument("start", metavar="FROM", callback=parse_version_value)
@click.argument("end", metavar="TO", callback=parse_version_value)
@click.argument("files", nargs=-1)
@change_options
def command(
    start: Version,
    end: Version,
    files: tuple[str, ...],
    *,
    target: Target,
) -> None:
    """Say that FILES, in this order, lead from version FROM to version TO; none for no migration.

    Each is a file, or the name of one that is published already. What is not compressed becomes
    LZ4. Going down, machines run them backwards.
    """
    found = find_migrations(files)
    change = SetMigrations(
        start=start,
        end=end,
        migration_files=tuple(each for each in found if isinstance(each, SourceFile)),
        migration_names=tuple(
            each.name if isinstance(each, SourceFile) else each for each in found
        ),
    )
    outcome = make(target, change)
    if wants_json():
        print_json(outcome.document())
    else:
        print_line("Migrations", f"{change}: {outcome.words}")
