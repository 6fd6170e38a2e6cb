"""`updog update-image`: the first half of an update."""

from contextlib import ExitStack

from semver import Version

from updog.commands.choosing import image_option, now_option
from updog.commands.installing import choose_and_install, progress_option, words_for_installed
from updog.commands.output import leaving, print_json, print_result, wants_json
from updog.commands.session import command, connected
from updog.progress import ProgressMode


@command("update-image", example="updog update-image && updog update-apply --reboot")
@image_option
@now_option
@progress_option
def update_image(*, image: Version | None, ignore_waves: bool, mode: ProgressMode) -> None:
    """Install and prove an update, but do not activate it.

    The next boot stays with the running system until `updog update-apply`.
    """
    with ExitStack() as until_the_end:
        with connected() as session:
            variant = session.machine.host.variant
            installed = choose_and_install(
                session, image=image, ignore_waves=ignore_waves, mode=mode, undone="installed"
            )
            if installed is None:
                return
            until_the_end.enter_context(leaving(words_for_installed(installed)))
        if wants_json():
            print_json({"installed": str(installed.version), "set": installed.set})
        else:
            print_result(
                f"Installed  {variant} {installed.version} in set {installed.set}. "
                "`updog update-apply` activates it."
            )
