"""`updog prepare`: rehearse an update without touching the disk."""

from semver import Version

from updog.choice import NoUpdate
from updog.commands.choosing import image_option, make_choice, now_option, report_none
from updog.commands.installing import progress_option
from updog.commands.output import NOTHING_CHANGED, leaving, print_json, print_result, wants_json
from updog.commands.session import command, connected
from updog.plan import plan
from updog.progress import Progress, ProgressMode, choose_displays
from updog.update import rehearse


@command("prepare", example="updog prepare --now")
@image_option
@now_option
@progress_option
def prepare(*, image: Version | None, ignore_waves: bool, mode: ProgressMode) -> None:
    """Fetch and verify an update without touching the disk.

    Every image and migration is fetched, checked and thrown away.
    """
    with connected() as session:
        choice = make_choice(session, image=image, ignore_waves=ignore_waves)
        if isinstance(choice.outcome, NoUpdate):
            report_none(choice, choice.outcome, undone="prepared")
            return
        chosen = choice.outcome.update
        with leaving(NOTHING_CHANGED):
            planned = plan(session.machine, session.repository, choice.manifest, chosen)
            rehearse(planned, session.repository, Progress(*choose_displays(mode)))
    with leaving(f"{chosen.version} is whole and signed, the disk was not changed"):
        if wants_json():
            print_json({"prepared": str(chosen.version), "bytes": planned.download_bytes})
        else:
            print_result(f"Prepared   {chosen.variant} {chosen.version} is whole and signed.")
