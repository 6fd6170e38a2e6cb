import subprocess
import sys

import pytest
from semver import Version

from tests.helpers.events import an_event
from tests.helpers.updates import a_host, a_manifest, an_update, hours
from updog.choice import Chosen, Judgement, NoUpdate, Policy, Reason, choose, judge, withdrawn_above
from updog.history import EventKind
from updog.manifest import Update
from updog.versions import parse_version_lock
from updog.waves import Seed


def judged(
    *updates: Update,
    running: str = "1.0.0",
    seed: int = 0,
    now_hours: float = 0,
    lock: str = "latest",
    forced: str | None = None,
    quarantined: tuple[str, ...] = (),
    left_by_hand: tuple[str, ...] = (),
    ignore_waves: bool = False,
) -> Judgement:
    policy = Policy(
        version_lock=parse_version_lock(lock),
        ignore_waves=ignore_waves,
        forced=Version.parse(forced) if forced else None,
        quarantined={
            Version.parse(each): an_event(EventKind.ROLLED_BACK, each, time=hours(0))
            for each in quarantined
        }
        | {
            Version.parse(each): an_event(EventKind.ROLLED_BACK, each, time=hours(0), by_hand=True)
            for each in left_by_hand
        },
    )
    return judge(
        a_manifest(*updates),
        a_host(running),
        policy=policy,
        seed=Seed(seed),
        now=hours(now_hours),
    )


def chosen(judgement: Judgement) -> str | None:
    outcome = choose(judgement)
    return str(outcome.update.version) if isinstance(outcome, Chosen) else None


def reasons(judgement: Judgement) -> dict[str, Reason]:
    return {str(each.update.version): each.reason for each in judgement.verdicts}


def no_update(judgement: Judgement) -> NoUpdate:
    outcome = choose(judgement)
    assert isinstance(outcome, NoUpdate)
    return outcome


def missed(judgement: Judgement) -> tuple[Reason, str | None]:
    """Return why there is no update, and the version that this is said of."""
    none = no_update(judgement)
    return none.reason, str(none.verdict.update.version) if none.verdict else None


def test_the_highest_newer_version_is_chosen_in_whatever_order_they_are_listed() -> None:
    judgement = judged(an_update("1.1.0"), an_update("1.10.0"), an_update("1.9.0"))
    assert chosen(judgement) == "1.10.0"
    assert reasons(judgement) == {
        "1.10.0": Reason.CHOSEN,
        "1.9.0": Reason.SUPERSEDED,
        "1.1.0": Reason.SUPERSEDED,
    }
    assert [str(each.update.version) for each in judgement.verdicts] == ["1.10.0", "1.9.0", "1.1.0"]


def test_what_runs_and_what_is_older_is_not_chosen() -> None:
    judgement = judged(an_update("1.0.0"), an_update("0.9.0"))
    assert reasons(judgement) == {"1.0.0": Reason.RUNNING, "0.9.0": Reason.OLDER}
    assert missed(judgement) == (Reason.RUNNING, None)


def test_a_prerelease_comes_before_its_release() -> None:
    assert chosen(judged(an_update("1.1.0"), running="1.1.0-rc.1")) == "1.1.0"
    assert chosen(judged(an_update("1.1.0-rc.1"), running="1.1.0")) is None


def test_updates_of_other_variants_and_architectures_are_not_judged() -> None:
    judgement = judged(an_update("2.0.0", variant="metal-dev"), an_update("2.0.0", arch="aarch64"))
    assert judgement.verdicts == ()
    assert missed(judgement) == (Reason.NOT_LISTED, None)


def test_an_empty_manifest_lists_nothing() -> None:
    assert missed(judged()) == (Reason.NOT_LISTED, None)


class TestWithdrawal:
    def test_a_version_above_its_max_version_is_held_back(self) -> None:
        judgement = judged(an_update("1.2.0", max_version="1.1.0"), an_update("1.1.0"))
        assert chosen(judgement) == "1.1.0"
        assert reasons(judgement)["1.2.0"] is Reason.HELD_BACK

    def test_a_version_at_its_max_version_is_not(self) -> None:
        assert chosen(judged(an_update("1.2.0", max_version="1.2.0"))) == "1.2.0"

    def test_what_runs_and_was_withdrawn_leads_back_down(self) -> None:
        judgement = judged(
            an_update("1.2.0", max_version="1.1.0"),
            an_update("1.1.0", max_version="1.1.0"),
            an_update("1.0.0", max_version="1.1.0"),
            running="1.2.0",
        )
        outcome = choose(judgement)
        assert isinstance(outcome, Chosen)
        assert str(outcome.update.version) == "1.1.0"
        assert outcome.is_downgrade
        assert reasons(judgement) == {
            "1.2.0": Reason.RUNNING,
            "1.1.0": Reason.CHOSEN,
            "1.0.0": Reason.SUPERSEDED,
        }

    def test_what_runs_at_the_max_version_stays(self) -> None:
        judgement = judged(an_update("1.0.0", max_version="1.1.0"), running="1.1.0")
        assert chosen(judgement) is None

    def test_an_update_that_is_held_back_is_why_there_is_none(self) -> None:
        judgement = judged(an_update("1.2.0", max_version="1.0.0"))
        assert missed(judgement) == (Reason.HELD_BACK, "1.2.0")

    def test_what_runs_and_was_withdrawn_is_told_where_nothing_may_replace_it(self) -> None:
        judgement = judged(an_update("1.2.0", max_version="1.1.0"), running="1.2.0")
        assert missed(judgement) == (Reason.WITHDRAWN, None)
        assert withdrawn_above(judgement) == Version(1, 1, 0)

    def test_what_runs_is_not_withdrawn_at_its_limit_nor_where_nothing_is_listed(self) -> None:
        at_its_limit = judged(an_update("1.2.0", max_version="1.2.0"), running="1.2.0")
        assert withdrawn_above(at_its_limit) is None
        assert withdrawn_above(judged(running="1.2.0")) is None

    def test_the_limit_of_the_others_counts_where_what_runs_is_not_listed(self) -> None:
        judgement = judged(an_update("1.0.0", max_version="1.1.0"), running="1.2.0")
        assert withdrawn_above(judgement) == Version(1, 1, 0)

    def test_an_upgrade_is_no_downgrade(self) -> None:
        outcome = choose(judged(an_update("1.2.0")))
        assert isinstance(outcome, Chosen)
        assert not outcome.is_downgrade


STARTS = {0: 0, 1000: 10, 2000: 20}


class TestWaves:
    def test_a_host_sees_no_update_before_its_moment(self) -> None:
        update = an_update("1.1.0", starts=STARTS)
        judgement = judged(update, seed=500, now_hours=4.999)
        assert missed(judgement) == (Reason.WAVE_NOT_STARTED, "1.1.0")
        assert no_update(judgement).ready_at == hours(5)

    def test_a_host_sees_the_update_at_its_moment(self) -> None:
        update = an_update("1.1.0", starts=STARTS)
        assert chosen(judged(update, seed=500, now_hours=5)) == "1.1.0"

    @pytest.mark.parametrize(("seed", "moment"), [(0, 0), (2000, 20), (2047, 20)])
    def test_the_first_and_the_last_wait_for_the_start_of_their_waves(
        self, seed: int, moment: float
    ) -> None:
        update = an_update("1.1.0", starts=STARTS)
        assert chosen(judged(update, seed=seed, now_hours=moment - 0.001)) is None
        assert chosen(judged(update, seed=seed, now_hours=moment)) == "1.1.0"

    def test_an_older_update_that_is_ready_is_chosen_meanwhile(self) -> None:
        judgement = judged(an_update("1.2.0", starts={0: 1}), an_update("1.1.0"))
        assert chosen(judgement) == "1.1.0"
        assert reasons(judgement)["1.2.0"] is Reason.WAVE_NOT_STARTED

    def test_waves_can_be_ignored(self) -> None:
        judgement = judged(an_update("1.1.0", starts={0: 1}), ignore_waves=True)
        assert chosen(judgement) == "1.1.0"

    def test_a_verdict_tells_the_hosts_place(self) -> None:
        (verdict,) = judged(an_update("1.1.0", starts=STARTS), seed=1500).verdicts
        assert verdict.place
        assert (verdict.place.number, verdict.place.count) == (2, 3)
        assert verdict.place.ready_at == hours(15)

    def test_other_outcomes_have_no_moment(self) -> None:
        judgement = judged(an_update("1.0.0", starts={0: 5}))
        assert no_update(judgement).ready_at is None


class TestVersionLock:
    LISTED = tuple(an_update(version) for version in ("1.1.0", "1.2.0", "1.3.0", "1.4.0"))

    def test_an_exact_lock_takes_its_version_and_no_newer_one(self) -> None:
        judgement = judged(*self.LISTED, lock="1.2.0")
        assert chosen(judgement) == "1.2.0"
        assert reasons(judgement)["1.3.0"] is Reason.LOCKED
        assert reasons(judgement)["1.1.0"] is Reason.LOCKED

    def test_an_exact_lock_leads_down_too(self) -> None:
        assert chosen(judged(*self.LISTED, running="1.3.0", lock="1.2.0")) == "1.2.0"

    def test_an_exact_lock_on_what_runs_takes_nothing(self) -> None:
        judgement = judged(*self.LISTED, running="1.2.0", lock="1.2.0")
        assert missed(judgement) == (Reason.LOCKED, "1.4.0")

    def test_an_exact_lock_on_what_is_not_listed_takes_nothing(self) -> None:
        judgement = judged(*self.LISTED, lock="1.2.5")
        assert missed(judgement) == (Reason.NOT_LISTED, None)

    def test_a_locked_version_that_is_held_back_is_told_before_others_that_are_not_admitted(
        self,
    ) -> None:
        judgement = judged(
            an_update("1.3.0"), an_update("1.2.0", max_version="1.1.0"), lock="1.2.0"
        )
        assert missed(judgement) == (Reason.HELD_BACK, "1.2.0")

    def test_a_range_takes_its_highest(self) -> None:
        assert chosen(judged(*self.LISTED, lock=">=1.2,<1.4")) == "1.3.0"

    def test_within_a_range_nothing_leads_down(self) -> None:
        judgement = judged(*self.LISTED, running="1.3.0", lock=">=1.2,<1.4")
        assert chosen(judgement) is None
        assert reasons(judgement)["1.2.0"] is Reason.OLDER

    def test_a_machine_above_its_range_moves_down_into_it(self) -> None:
        assert chosen(judged(*self.LISTED, running="1.5.0", lock=">=1.2,<1.4")) == "1.3.0"

    def test_a_lock_does_not_bring_a_version_that_is_held_back(self) -> None:
        judgement = judged(an_update("1.2.0", max_version="1.1.0"), lock="1.2.0")
        assert missed(judgement) == (Reason.HELD_BACK, "1.2.0")

    def test_a_lock_does_not_jump_the_wave(self) -> None:
        judgement = judged(an_update("1.2.0", starts={0: 1}), lock="1.2.0")
        assert missed(judgement) == (Reason.WAVE_NOT_STARTED, "1.2.0")


class TestForcedVersion:
    LISTED = tuple(an_update(version) for version in ("1.0.0", "1.1.0", "1.2.0"))

    def test_exactly_the_forced_version_is_chosen(self) -> None:
        judgement = judged(*self.LISTED, forced="1.1.0")
        assert chosen(judgement) == "1.1.0"
        assert reasons(judgement) == {
            "1.2.0": Reason.NOT_REQUESTED,
            "1.1.0": Reason.CHOSEN,
            "1.0.0": Reason.NOT_REQUESTED,
        }

    def test_it_may_be_older_and_then_is_a_downgrade(self) -> None:
        outcome = choose(judged(*self.LISTED, running="1.2.0", forced="1.1.0"))
        assert isinstance(outcome, Chosen)
        assert outcome.is_downgrade

    def test_what_runs_is_not_installed_over_the_set_to_fall_back_to(self) -> None:
        assert missed(judged(*self.LISTED, forced="1.0.0")) == (Reason.RUNNING, "1.0.0")

    @pytest.mark.parametrize(
        ("forced", "expected"), [("1.3.0", "1.3.0+5"), ("1.3.0+5", "1.3.0+5"), ("1.3.0+6", None)]
    )
    def test_a_build_that_is_named_must_be_that_build(
        self, forced: str, expected: str | None
    ) -> None:
        assert chosen(judged(an_update("1.3.0+5"), forced=forced)) == expected
        assert chosen(judged(an_update("1.3.0+5"), lock=forced)) == expected

    @pytest.mark.parametrize(
        ("facts", "by_hand"),
        [
            ({"forced": "1.1.0"}, True),
            ({"forced": "1.1.0", "lock": "<1.2"}, False),
            ({"lock": "1.1.0"}, False),
        ],
    )
    def test_a_downgrade_is_by_hand_where_nothing_else_asks_for_it(
        self, facts: dict[str, str], *, by_hand: bool
    ) -> None:
        outcome = choose(judged(an_update("1.1.0"), running="1.2.0", **facts))  # type: ignore[arg-type]
        assert isinstance(outcome, Chosen)
        assert (outcome.is_downgrade, outcome.is_by_hand) == (True, by_hand)

    def test_it_beats_the_lock(self) -> None:
        assert chosen(judged(*self.LISTED, forced="1.1.0", lock="1.2.0")) == "1.1.0"

    def test_it_beats_the_quarantine_and_says_so(self) -> None:
        outcome = choose(judged(*self.LISTED, forced="1.1.0", quarantined=("1.1.0",)))
        assert isinstance(outcome, Chosen)
        assert outcome.was_quarantined

    def test_it_does_not_beat_a_withdrawal(self) -> None:
        judgement = judged(an_update("1.2.0", max_version="1.1.0"), forced="1.2.0")
        assert missed(judgement) == (Reason.HELD_BACK, "1.2.0")

    def test_it_waits_for_its_wave_unless_waves_are_ignored(self) -> None:
        update = an_update("1.2.0", starts={0: 1})
        assert missed(judged(update, forced="1.2.0")) == (Reason.WAVE_NOT_STARTED, "1.2.0")
        assert chosen(judged(update, forced="1.2.0", ignore_waves=True)) == "1.2.0"

    def test_one_that_is_not_listed_is_said_to_be_so(self) -> None:
        assert missed(judged(*self.LISTED, forced="1.1.1")) == (Reason.NOT_LISTED, None)


class TestQuarantine:
    def test_a_version_that_was_rolled_back_is_not_chosen_again(self) -> None:
        judgement = judged(an_update("1.2.0"), running="1.1.0", quarantined=("1.2.0",))
        assert missed(judgement) == (Reason.QUARANTINED, "1.2.0")

    def test_a_newer_one_is(self) -> None:
        judgement = judged(
            an_update("1.2.0"), an_update("1.2.1"), running="1.1.0", quarantined=("1.2.0",)
        )
        assert chosen(judgement) == "1.2.1"
        assert reasons(judgement)["1.2.0"] is Reason.QUARANTINED

    def test_a_quarantine_of_what_is_older_anyway_is_not_spoken_of(self) -> None:
        judgement = judged(an_update("0.9.0"), an_update("1.0.0"), quarantined=("0.9.0",))
        assert missed(judgement) == (Reason.RUNNING, None)


def test_waiting_is_the_first_thing_to_be_told_of() -> None:
    judgement = judged(
        an_update("1.4.0", max_version="1.0.0"),
        an_update("1.3.0"),
        an_update("1.2.0", starts={0: 1}),
        quarantined=("1.3.0",),
    )
    assert missed(judgement) == (Reason.WAVE_NOT_STARTED, "1.2.0")


def test_deciding_loads_no_library_for_json_tuf_or_http() -> None:
    heavy = {"msgspec", "requests", "urllib3", "tuf", "structlog"}
    script = "import sys, updog.choice, updog.explanation, updog.waves; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert not heavy & set(done.stdout.split())
