"""Options that stand before or after a command's name, and commands loaded when they run."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from signpost.commandline import LazyCommand, SharingGroup, shared_options


def options() -> list[click.Option]:
    return [
        click.Option(["--colour"], envvar="A_COLOUR", default="none"),
        click.Option(["--loud"], is_flag=True),
    ]


def a_group(lazy: Mapping[str, LazyCommand] | None = None) -> SharingGroup:
    group = SharingGroup(name="paint", make_options=options, lazy=lazy)

    @group.command("show")
    def show() -> None:
        """Print the shared options."""
        shared = shared_options()
        click.echo(f"{shared['colour']} {shared['loud']}")

    @group.command("own")
    @click.option("--colour", default="own default")
    def own(colour: str) -> None:
        """Print an option that hides a shared one."""
        click.echo(f"{colour}, shared {shared_options()['colour']}")

    return group


def run(*arguments: str, lazy: Mapping[str, LazyCommand] | None = None, **env: str) -> Result:
    return CliRunner().invoke(a_group(lazy), arguments, prog_name="paint", env=env)


class TestSharedOptions:
    @pytest.mark.parametrize(
        ("arguments", "output"),
        [
            pytest.param(["show"], "none False", id="not at all"),
            pytest.param(["--colour", "red", "show"], "red False", id="before"),
            pytest.param(["show", "--colour", "red"], "red False", id="after"),
            pytest.param(["--colour", "red", "show", "--colour", "blue"], "blue False", id="both"),
            pytest.param(["--loud", "show"], "none True", id="a flag before"),
            pytest.param(["show", "--loud"], "none True", id="a flag after"),
            pytest.param(["--loud", "show", "--colour", "red"], "red True", id="one on each side"),
        ],
    )
    def test_they_may_stand_before_or_after_the_command(
        self, arguments: list[str], output: str
    ) -> None:
        assert run(*arguments).output == f"{output}\n"

    @pytest.mark.parametrize(
        ("arguments", "output"),
        [
            (["show"], "green False"),
            (["--colour", "red", "show"], "red False"),
            (["show", "--colour", "red"], "red False"),
        ],
    )
    def test_the_environment_yields_to_the_command_line(
        self, arguments: list[str], output: str
    ) -> None:
        assert run(*arguments, A_COLOUR="green").output == f"{output}\n"

    def test_a_command_s_own_option_of_the_same_name_stays_its_own(self) -> None:
        assert run("own", "--colour", "red").output == "red, shared none\n"
        assert run("--colour", "red", "own").output == "own default, shared red\n"

    @pytest.mark.parametrize("arguments", [["--size", "1", "show"], ["show", "--size", "1"]])
    def test_an_unknown_option_is_a_usage_error_on_both_sides(self, arguments: list[str]) -> None:
        result = run(*arguments)
        assert result.exit_code == 2
        assert "No such option" in result.output

    def test_one_run_leaves_nothing_for_the_next(self) -> None:
        group = a_group()
        assert CliRunner().invoke(group, ["show", "--loud"]).output == "none True\n"
        assert CliRunner().invoke(group, ["show"]).output == "none False\n"


@pytest.fixture
def lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, LazyCommand]:
    """Lazy commands whose module lies where it can be imported, but is not yet."""
    (tmp_path / "slow_brushes.py").write_text(
        "import click\n"
        "from signpost.commandline import shared_options\n"
        "@click.command('brush')\n"
        "@click.argument('name')\n"
        "def brush(name):\n"
        "    click.echo(f\"{name} {shared_options()['colour']}\")\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_brushes", raising=False)
    return {
        "brush": LazyCommand(module="slow_brushes", attribute="brush", summary="Take a brush."),
        "secret": LazyCommand(
            module="slow_brushes", attribute="brush", summary="Not shown.", hidden=True
        ),
    }


class TestLazyCommands:
    def test_the_help_lists_them_without_loading_them(
        self, lazy: Mapping[str, LazyCommand]
    ) -> None:
        result = run("--help", lazy=lazy)
        assert result.exit_code == 0
        assert "brush  Take a brush." in result.output
        assert "slow_brushes" not in sys.modules

    def test_another_command_does_not_load_them(self, lazy: Mapping[str, LazyCommand]) -> None:
        assert run("show", lazy=lazy).exit_code == 0
        assert "slow_brushes" not in sys.modules

    def test_they_run_with_the_shared_options(self, lazy: Mapping[str, LazyCommand]) -> None:
        assert run("brush", "flat", "--colour", "red", lazy=lazy).output == "flat red\n"
        assert run("--colour", "red", "brush", "flat", lazy=lazy).output == "flat red\n"

    def test_a_hidden_one_runs_but_is_not_listed(self, lazy: Mapping[str, LazyCommand]) -> None:
        assert "secret" not in run("--help", lazy=lazy).output
        assert run("secret", "round", lazy=lazy).output == "round none\n"

    def test_one_group_may_be_used_twice(self, lazy: Mapping[str, LazyCommand]) -> None:
        group = a_group(lazy)
        for _ in range(2):
            result = CliRunner().invoke(group, ["brush", "flat", "--loud"])
            assert result.output == "flat none\n"

    def test_all_names_are_known_in_alphabetical_order(
        self, lazy: Mapping[str, LazyCommand]
    ) -> None:
        group = a_group(lazy)
        names = group.list_commands(click.Context(group))
        assert names == ["brush", "own", "secret", "show"]

    def test_a_name_that_is_no_command_is_a_usage_error(
        self, lazy: Mapping[str, LazyCommand]
    ) -> None:
        result = run("brsh", lazy=lazy)
        assert result.exit_code == 2
        assert "No such command" in result.output
