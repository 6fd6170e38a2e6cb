from datetime import UTC, timedelta, timezone

import pytest

from tests.helpers.updates import an_update
from tests.unit.updog.test_choice import judged, no_update
from updog.choice import Judgement, Reason
from updog.explanation import explain_none, explain_verdict


def words(judgement: Judgement) -> dict[str, str]:
    return {
        str(each.update.version): explain_verdict(each, judgement, zone=UTC)
        for each in judgement.verdicts
    }


def none_words(judgement: Judgement) -> str:
    return explain_none(no_update(judgement), judgement, zone=UTC)


def test_each_verdict_is_put_into_words() -> None:
    judgement = judged(
        an_update("1.7.0", max_version="1.6.0"),
        an_update("1.6.0"),
        an_update("1.5.0", starts={0: 0, 1000: 14}),
        an_update("1.4.0"),
        an_update("1.3.0"),
        an_update("1.2.0"),
        an_update("1.1.0"),
        an_update("1.0.0"),
        running="1.2.0",
        lock=">=1.1,<1.8",
        quarantined=("1.6.0",),
        seed=500,
    )
    assert words(judgement) == {
        "1.7.0": "is held back: the publisher allows up to 1.6.0 for now",
        "1.6.0": (
            "was tried here and rolled back on 2030-01-01; `updog update --image 1.6.0` insists"
        ),
        "1.5.0": (
            "reaches this machine Tue 2030-01-01 07:00 UTC, in wave 1 of 2 (seed 500); "
            "`updog update --now` does not wait"
        ),
        "1.4.0": "the newest that is ready",
        "1.3.0": "a newer one is chosen",
        "1.2.0": "runs here",
        "1.1.0": "older than 1.2.0, which runs",
        "1.0.0": "is not admitted by version_lock >=1.1,<1.8",
    }


def test_a_forced_version_is_said_to_be_asked_for() -> None:
    assert words(judged(an_update("1.1.0"), an_update("1.2.0"), forced="1.1.0")) == {
        "1.1.0": "asked for by --image",
        "1.2.0": "--image asks for 1.1.0",
    }


def test_a_downgrade_is_called_one_with_its_cause() -> None:
    withdrawn = judged(an_update("1.1.0", max_version="1.1.0"), running="1.2.0")
    assert words(withdrawn) == {"1.1.0": "a downgrade: 1.2.0, which runs, was withdrawn"}
    locked = judged(an_update("1.1.0"), running="1.2.0", lock="1.1.0")
    assert words(locked) == {"1.1.0": "a downgrade: version_lock 1.1.0 does not admit 1.2.0"}


def test_a_chosen_update_tells_its_wave_too() -> None:
    judgement = judged(an_update("1.1.0", starts={0: 0, 1000: 10}), seed=500, now_hours=6)
    assert words(judgement) == {
        "1.1.0": (
            "the newest that is ready; its turn here: Tue 2030-01-01 05:00 UTC, in wave 1 of 2 "
            "(seed 500)"
        )
    }


def test_what_runs_and_was_withdrawn_says_so() -> None:
    judgement = judged(an_update("1.1.0", max_version="1.0.0"), running="1.1.0")
    assert words(judgement) == {
        "1.1.0": "runs here, but was withdrawn: the publisher allows up to 1.0.0"
    }


def test_a_moment_is_told_in_the_users_time_zone() -> None:
    judgement = judged(an_update("1.1.0", starts={0: 1}))
    zone = timezone(timedelta(hours=2), "EET")
    (verdict,) = judgement.verdicts
    assert "Tue 2030-01-01 03:00 EET" in explain_verdict(verdict, judgement, zone=zone)
    assert "2030" in explain_verdict(verdict, judgement)


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (judged(), "no update is listed for aws-k8s-1.30 on x86_64"),
        (
            judged(an_update("1.0.0")),
            "1.0.0 runs, and nothing newer is listed for aws-k8s-1.30 on x86_64",
        ),
        (
            judged(an_update("1.2.0"), an_update("1.1.0"), forced="1.1.1"),
            "no 1.1.1 is listed for aws-k8s-1.30 on x86_64, only 1.2.0 and 1.1.0 are",
        ),
        (
            judged(forced="1.1.1"),
            "no 1.1.1 is listed for aws-k8s-1.30 on x86_64",
        ),
        (
            judged(an_update("1.1.0"), quarantined=("1.1.0",)),
            (
                "1.1.0 was tried here and rolled back on 2030-01-01; "
                "`updog update --image 1.1.0` insists"
            ),
        ),
        (
            judged(an_update("1.1.0"), left_by_hand=("1.1.0",)),
            "1.1.0 was left by hand on 2030-01-01; `updog update --image 1.1.0` insists",
        ),
        (
            judged(an_update("1.1.0"), running="1.1.0", forced="1.1.0"),
            "1.1.0 runs here",
        ),
        (
            judged(an_update("1.1.0+5"), forced="1.1.0+6"),
            "no 1.1.0+6 is listed for aws-k8s-1.30 on x86_64, only 1.1.0+5 is",
        ),
        (
            judged(an_update("1.1.0"), lock="1.0.0"),
            "1.0.0 runs, as version_lock 1.0.0 wants; 1.1.0 is newer and not admitted",
        ),
        (
            judged(an_update("1.0.0"), lock="1.0.0"),
            (
                "1.0.0 runs, as version_lock 1.0.0 wants, and nothing newer that it admits is "
                "listed for aws-k8s-1.30 on x86_64"
            ),
        ),
        (
            judged(an_update("1.1.0"), lock="1.2.0"),
            (
                "nothing that version_lock 1.2.0 admits is listed for aws-k8s-1.30 on x86_64, only "
                "1.1.0 is"
            ),
        ),
        (
            judged(an_update("1.1.0", max_version="1.0.0"), running="1.1.0", lock="<=1.1.0"),
            (
                "1.1.0, which runs, was withdrawn: the publisher allows up to 1.0.0; nothing else "
                "that version_lock <=1.1.0 admits is listed for aws-k8s-1.30 on x86_64, only "
                "1.1.0 is"
            ),
        ),
        (
            judged(an_update("1.2.0", max_version="1.1.0"), lock="1.2.0"),
            "version_lock 1.2.0: 1.2.0 is held back: the publisher allows up to 1.1.0 for now",
        ),
        (
            judged(an_update("1.1.0", max_version="1.0.0"), running="1.1.0"),
            (
                "1.1.0, which runs, was withdrawn: the publisher allows up to 1.0.0; nothing that "
                "may replace it is listed for aws-k8s-1.30 on x86_64, only 1.1.0 is"
            ),
        ),
        (
            judged(*(an_update(f"1.{minor}.0") for minor in range(1, 8)), forced="2.0.0"),
            (
                "no 2.0.0 is listed for aws-k8s-1.30 on x86_64, only 1.7.0, 1.6.0, 1.5.0, 1.4.0, "
                "1.3.0 and 2 more are"
            ),
        ),
        (
            judged(an_update("1.1.0", starts={0: 1}), forced="1.1.0"),
            (
                "1.1.0 reaches this machine Tue 2030-01-01 01:00 UTC, in wave 1 of 1 (seed 0); "
                "`updog update --image 1.1.0 --now` does not wait"
            ),
        ),
    ],
)
def test_the_absence_of_an_update_is_put_into_words(judgement: Judgement, expected: str) -> None:
    assert none_words(judgement) == expected


def test_every_reason_that_an_update_can_have_has_words() -> None:
    judgement = judged(an_update("1.1.0", starts={0: 1}))
    (verdict,) = judgement.verdicts
    for reason in set(Reason) - {Reason.NOT_LISTED, Reason.WITHDRAWN, Reason.ON_HOLD}:
        other = type(verdict)(update=verdict.update, reason=reason, place=None)
        assert explain_verdict(other, judgement, zone=UTC)
