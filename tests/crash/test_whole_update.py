"""No cut during a whole update leaves a machine that does not boot, or not on to the new release.

The installed command updates a real machine under a recorder of system calls. Each state that a
power cut can leave, of the disk and of all files, is judged; from a sample of them the command is
run again. `make explore` visits all of them; a sample otherwise.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.crash.explorer import IS_DEEP
from tests.crash.recorded import Change, Directory, File, Node
from tests.crash.tracing import why_no_traces
from tests.crash.update_judge import Judge, complaint_after_rerun
from tests.crash.update_states import Cut, State, cuts, forgetting, restore, states_of
from tests.crash.whole_update import SCENARIOS, Scenario, Update, record, require_same_neighbours
from tests.helpers.machine import Machine, a_machine
from updog.cli import cli

SEED = 20300101
STATES_OF_A_CUT = 6
FEWEST_STATES = 4000 if IS_DEEP else 100
RERUNS_OF_A_CUT = 6 if IS_DEEP else 1
EVERY_NTH_CUT_AGAIN = 1 if IS_DEEP else 8

pytestmark = pytest.mark.skipif(why_no_traces() is not None, reason=str(why_no_traces()))


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda scenario: scenario.name)
def update(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Update]:
    scenario: Scenario = request.param
    directory = tmp_path_factory.mktemp("update")
    with a_machine(template, directory) as machine:
        yield record(scenario, machine, directory)


def new_states(cut: Cut, chance: random.Random, known: set[int]) -> Iterator[State]:
    """Yield the states of a cut that were not visited before, all or a sample."""
    states = states_of(cut, chance) if IS_DEEP else some_of(states_of(cut, chance), chance)
    for state in states:
        if (key := state.key) not in known:
            known.add(key)
            yield state


def some_of(states: Iterator[State], chance: random.Random) -> list[State]:
    """Return a sample in which each state is as likely as any other."""
    picked: list[State] = []
    for number, state in enumerate(states):
        if len(picked) < STATES_OF_A_CUT:
            picked.append(state)
        elif (place := chance.randrange(number + 1)) < STATES_OF_A_CUT:
            picked[place] = state
    return picked


def runner(machine: Machine) -> Callable[..., int]:
    """Return what runs updog within this process: it starts hundreds of times."""

    def run(*arguments: str) -> int:
        return CliRunner().invoke(cli, arguments, env=machine.full_environment()).exit_code

    return run


def test_no_cut_leaves_a_machine_that_does_not_boot_or_not_go_on(
    update: Update, count_states: Callable[[int], None], report: Callable[[str], None]
) -> None:
    chance, run, judge = random.Random(SEED), runner(update.machine), Judge(update)
    known: set[int] = set()
    bad: list[str] = []
    reruns = 0
    for number, cut in enumerate(cuts(update)):
        to_run: list[State] = []
        for state in new_states(cut, chance, known):
            if (fault := judge.complaint(state)) is not None:
                bad.append(fault)
            to_run.append(state)
            if len(to_run) > RERUNS_OF_A_CUT:
                to_run.pop(chance.randrange(len(to_run)))
        for state in to_run if number % EVERY_NTH_CUT_AGAIN == 0 else ():
            restore(state)
            reruns += 1
            if (fault := complaint_after_rerun(update, run)) is not None:
                bad.append(f"{state.how}: {fault}")
    require_same_neighbours(update)
    assert len(known) >= FEWEST_STATES
    count_states(len(known))
    report(
        f"whole update, {update.scenario.name}: {len(known)} crash states, {reruns} run again, "
        f"{len(bad)} bad, seed {SEED}"
    )
    assert not bad, f"{len(bad)} bad states: {bad[:5]}"


def node_at(update: Update, *names: str) -> Node:
    node: Node = update.recording.root
    for name in names:
        assert isinstance(node, Directory)
        node = node.names[name]
    return node


def changes_at(update: Update, *names: str) -> Sequence[Change]:
    node = node_at(update, *names)
    assert isinstance(node, File | Directory)
    return node.changes


def of_partitions(update: Update) -> Sequence[Change]:
    return [w for w in update.recording.writes if not update.is_of_table(w.offset // 512)]


def of_the_last_partition(update: Update) -> Sequence[Change]:
    return [of_partitions(update)[-1]]


def of_the_table(update: Update) -> Sequence[Change]:
    return [w for w in update.recording.writes if update.is_of_table(w.offset // 512)]


def of_the_history(update: Update) -> Sequence[Change]:
    return changes_at(update, "lib", "updog", "history.jsonl")


def of_the_cache(update: Update) -> Sequence[Change]:
    return changes_at(update, "cache")


def of_a_cached_file(update: Update) -> Sequence[Change]:
    return changes_at(update, "cache", "metadata", "targets.json")


def of_the_floor(update: Update) -> Sequence[Change]:
    return changes_at(update, "lib", "updog", "metadata-floor.json")


@pytest.mark.parametrize(
    ("unflushed", "words"),
    [
        (of_partitions, "holds no whole release"),
        (of_the_last_partition, "holds no whole release"),
        (of_the_table, "finds no table"),
        (of_the_history, "the history does not tell"),
        (of_the_cache, "cache/metadata is n"),
        (of_a_cached_file, "cache/metadata is n"),
        (of_the_floor, "metadata-floor.json is n"),
    ],
)
@pytest.mark.parametrize("update", SCENARIOS[:1], indirect=True, ids=lambda scenario: scenario.name)
def test_an_update_that_left_a_flush_out_would_be_noticed(
    update: Update, unflushed: Callable[[Update], Sequence[Change]], words: str
) -> None:
    chance, judge = random.Random(SEED), Judge(update)
    with forgetting(unflushed(update)):
        states = (state for cut in reversed(list(cuts(update))) for state in states_of(cut, chance))
        with closing(states):
            assert any(words in (judge.complaint(state) or "") for state in states)
