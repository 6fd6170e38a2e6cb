"""`updog explain`: every update and its verdict."""

from typing import Any

from semver import Version

from updog import migrations
from updog.choice import Chosen, Judgement, Reason, Verdict
from updog.commands.choosing import Choice, image_option, make_choice, now_option
from updog.commands.output import NOTHING_CHANGED, leaving, print_json, print_result, wants_json
from updog.commands.session import command, connected
from updog.errors import UpdogError
from updog.explanation import explain_hold, explain_verdict, explain_withdrawal
from updog.hold import hold_facts
from updog.waves import WavePosition


@command("explain", example="updog explain --json")
@image_option
@now_option
def explain(*, image: Version | None, ignore_waves: bool) -> None:
    """Say of every update why it is, or is not, taken, and when."""
    with connected() as session:
        choice = make_choice(session, image=image, ignore_waves=ignore_waves)
    with leaving(NOTHING_CHANGED):
        if wants_json():
            print_json(_facts(choice))
        else:
            print_result("\n".join(_lines(choice)))


def _lines(choice: Choice) -> list[str]:
    judgement = choice.judgement
    host = judgement.host
    heading = (
        f"running {host.version}, variant {host.variant}, {host.arch}, seed {judgement.seed}, "
        f"lock {judgement.policy.version_lock}"
    )
    return [
        heading,
        *_withdrawal_lines(judgement),
        *_hold_lines(judgement),
        *_verdict_lines(judgement),
        *_migration_lines(choice),
    ]


def _verdict_lines(judgement: Judgement) -> list[str]:
    """Say of every version what becomes of it, the highest first; of what runs in any event."""
    rows = [
        (each.update.version, _word(each), _why(each, judgement)) for each in judgement.verdicts
    ]
    running = judgement.host.version
    if not _is_listed(running, judgement):
        rows.append((running, "running", "runs here, and is not listed"))
    rows.sort(key=lambda row: row[0], reverse=True)
    width = max(len(str(version)) for version, _, _ in rows)
    return [f"  {version!s:<{width}}  {word:<13} {why}" for version, word, why in rows]


def _is_listed(version: Version, judgement: Judgement) -> bool:
    return any(each.update.version == version for each in judgement.verdicts)


def _withdrawal_lines(judgement: Judgement) -> list[str]:
    words = explain_withdrawal(judgement)
    return [words] if words else []


def _hold_lines(judgement: Judgement) -> list[str]:
    words = explain_hold(judgement)
    return [f"{words[0].upper()}{words[1:]}"] if words else []


def _migration_lines(choice: Choice) -> list[str]:
    if not isinstance(choice.outcome, Chosen):
        return []
    running, goal = choice.judgement.host.version, choice.outcome.update.version
    return [f"Migrations {running} -> {goal}: {_migration_words(choice, goal)}."]


def _migration_words(choice: Choice, goal: Version) -> str:
    running = choice.judgement.host.version
    try:
        chain = migrations.find_chain(choice.manifest, running=running, goal=goal)
    except UpdogError as err:
        return str(err)
    direction = "backward" if goal < running else "forward"
    return f"{len(chain)} ({direction})" if chain else "none"


def _why(verdict: Verdict, judgement: Judgement) -> str:
    """Say why, without the word that stands before it."""
    return explain_verdict(verdict, judgement).removeprefix(f"is {verdict.reason}: ")


def _word(verdict: Verdict) -> str:
    return "CHOSEN" if verdict.reason is Reason.CHOSEN else verdict.reason


def _facts(choice: Choice) -> dict[str, Any]:
    judgement = choice.judgement
    return {
        "running": str(judgement.host.version),
        "running_is_listed": _is_listed(judgement.host.version, judgement),
        "variant": judgement.host.variant,
        "arch": judgement.host.arch,
        "seed": judgement.seed,
        "version_lock": str(judgement.policy.version_lock),
        "hold": hold_facts(judgement.policy.hold) if judgement.policy.hold else None,
        "updates": [
            {
                "version": str(verdict.update.version),
                "reason": verdict.reason,
                "text": explain_verdict(verdict, judgement),
                "wave": _wave_facts(verdict.place),
            }
            for verdict in judgement.verdicts
        ],
        "migrations": _migration_facts(choice),
    }


def _migration_facts(choice: Choice) -> list[str] | None:
    """Return the names in the order of running; None without an update or with a gap."""
    if not isinstance(choice.outcome, Chosen):
        return None
    running, goal = choice.judgement.host.version, choice.outcome.update.version
    try:
        return list(migrations.find_chain(choice.manifest, running=running, goal=goal))
    except UpdogError:
        return None


def _wave_facts(place: WavePosition | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "number": place.number,
        "count": place.count,
        "start_bound": place.start_bound,
        "end_bound": place.end_bound,
        "ready_at": place.ready_at.isoformat(),
    }
