"""How it is told how far a release is, and where machines will land."""

from datetime import datetime

from repo_tools.catalogue import Catalogue
from repo_tools.options import print_line
from repo_tools.releases import Landing, Selection, is_offered, landings, select
from repo_tools.rescheduling import completes_at, reached
from repo_tools.workspace import Outcome
from updog.manifest import Update, format_time
from updog.waves import SEEDS


def state_of(catalogue: Catalogue, update: Update, moment: datetime) -> str:
    """Return in words how far a release is."""
    share = f"{reached(update.waves, moment) / SEEDS:.1%}"
    if catalogue.is_withdrawn(update):
        return "withdrawn"
    if not is_offered(update):
        return "held back"
    if stopped := catalogue.pause_of(update):
        return f"paused at {share} since {shown_time(stopped.at)}"
    end = completes_at(update.waves)
    if end is None or end <= moment:
        return "for the whole fleet"
    return f"rolling out: {share} now, all at {shown_time(end)}"


def shown_time(moment: datetime) -> str:
    """Return a moment to the second, in UTC."""
    return format_time(moment.replace(microsecond=0))


def describe_landings(outcome: Outcome, selection: Selection) -> list[dict[str, object]]:
    """Return where machines that run the selected updates will land, for JSON."""
    return [
        {
            "variant": update.variant,
            "arch": update.arch,
            "from": str(update.version),
            "seeds": [landing.first, landing.end],
            "to": str(landing.version) if landing.version else None,
            "at": format_time(landing.at) if landing.at else None,
        }
        for update, landing in _landings(outcome, selection)
    ]


def print_landings(outcome: Outcome, selection: Selection) -> None:
    """Print where machines that run the selected updates will land."""
    for update, landing in _landings(outcome, selection):
        where = f"{update.variant} {update.arch}"
        print_line("Machines", f"{where}: {landing.share:.1%} {_words(update, landing)}")


def _landings(outcome: Outcome, selection: Selection) -> list[tuple[Update, Landing]]:
    return [
        (update, landing)
        for update in select(outcome.after.manifest, selection)
        for landing in landings(outcome.after, update, outcome.now)
    ]


def _words(update: Update, landing: Landing) -> str:
    if landing.version is not None:
        way = "go back" if landing.version < update.version else "go on"
        return f"{way} from {update.version} to {landing.version}"
    if landing.at is not None:
        return f"stay on {update.version} until their wave, the last at {shown_time(landing.at)}"
    return f"stay on {update.version}"
