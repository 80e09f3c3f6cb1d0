"""What to do about a run that broke off, by its cause, and what to say of one that has nothing to show yet.

One advice for all failures is wrong for most of them: a lower learning rate brings no file back.
"""

from __future__ import annotations

from pages.session import family_words
from pages.session.markdown_escape import escape_markdown
from qcore.base.run_states import RunState
from qcore.lab import Lab, RunInfo
from qcore.runs.waiting import waiting_words
from qcore.viz import name_words

_RESUME = "press *Resume* in the control room"
_AGAIN = "press *New run from this one* in the control room, as it has no checkpoint to resume from"
_NEW = "use *New run from this one* and change it there"
_ADVICE: dict[str, tuple[str, bool]] = {
    "numeric": (f"Lower the learning rate or the weight of the term that broke, then {_RESUME}.", True),
    "data": (
        f"Put the data where the run looks for them, as they were, and {_RESUME}; or {_NEW}: its *Data* section says "
        "immediately whether a path can be read.",
        False,
    ),
    "disk": (f"Free space on the disk of the runs, or make it writable, then {_RESUME}: nothing is lost.", True),
    "memory": (
        f"Close other programs that use memory, then {_RESUME}; or {_NEW}: a smaller batch, context or model, or "
        f"less data.",
        False,
    ),
    "folder gone": (f"Put the run's folder back where it was, then {_RESUME}.", False),
    "configuration": (f"It would fail again in the same way: {_NEW}.", False),
    "checkpoint": ("Restore a checkpoint of it from a copy, or start again: *New run from this one*.", False),
    "database": ("Restore its folder from a copy or an export; or start again: *New run from this one*.", False),
    "locked": (f"Close the other program that holds its database, then {_RESUME}.", True),
    "files": (f"Close other runs and programs, or raise the limit of open files, then {_RESUME}.", True),
    "process ended": (f"Nothing is wrong with the run itself: {_RESUME}.", True),
    "bug": (
        "This is an unexpected error. The trainer's log (*Charts → Log → Trainer log*) holds the traceback; please "
        "report it. "
        f"Another setting may avoid it: {_NEW}.",
        False,
    ),
}
_SIGNS = (
    ("numeric", ("not finite", "is nan", "nan at step")),
    ("memory", ("memoryerror", "out of memory", "unable to allocate", "not enough memory")),
    ("disk", ("disk is full", "no space left", "read-only file system", "errno 28", "errno 30")),
    ("folder gone", ("was moved or deleted",)),
    ("data", ("data.", "the data of this run", "data set", "holds no text", "latents under", "video under")),
    ("checkpoint", ("checkpoints can be used",)),
    ("configuration", ("is refused", "configerror")),
)
"""What messages of earlier versions say, which kept no cause; the first that fits."""


def cause(info: RunInfo) -> str:
    """Why a run broke off: as it was kept, else as its message says; `bug` when neither tells."""
    if info.cause in _ADVICE:
        return info.cause
    if info.state == RunState.INTERRUPTED:
        return "process ended"
    message = info.message.lower()
    return next((name for name, signs in _SIGNS if any(sign in message for sign in signs)), "bug")


def remedy(info: RunInfo, stranded: int = 0) -> str:
    """What to do, in Markdown.

    Args:
        stranded: as of `Lab.stranded_steps`.
    """
    text = _ADVICE[cause(info)][0]
    return text.replace(_RESUME, _AGAIN) if stranded else text


def how_to_continue(stranded: int) -> str:
    """How a run that has ended goes on, in Markdown.

    Args:
        stranded: as of `Lab.stranded_steps`.
    """
    if not stranded:
        return (
            "*Resume* in the control room continues from its newest checkpoint, or starts at step 0 if there is "
            "none yet."
        )
    return (
        f"It has recorded {stranded:,} step{'' if stranded == 1 else 's'}, and no checkpoint to resume from: *New "
        f"run from this one* in the control room trains its configuration from scratch, and leaves what is recorded "
        "here as it is."
    )


def resume_helps(info: RunInfo) -> bool:
    """Whether continuing is the first thing to try: where something has to be mended before it, it is not."""
    return info.state not in (RunState.FAILED, RunState.INTERRUPTED) or _ADVICE[cause(info)][1]


def empty_chart_text(info: RunInfo, waits: str = "") -> str:
    """What the loss chart says while it is empty."""
    if info.state == RunState.FAILED:
        return "It failed before its first step: see the reason above."
    if info.state == RunState.QUEUED and waits:
        return f"{waits[0].upper()}{waits[1:]}."
    if info.state in (RunState.QUEUED, RunState.RUNNING):
        return "Waiting for the first step." if info.message != "opening the data" else "The data are being loaded."
    return "It ended before its first step." if not info.alive else "No step yet."


def why_nothing_to_show(
    lab: Lab, info: RunInfo, what: str, control: str, *, done: str = "measured", budgeted: bool = False
) -> str:
    """Why a page has nothing to show, in Markdown: for whom the run waits, when it comes, or that none will.

    Args:
        what: in the plural, `token statistics`.
        control: how often it comes.
        done: what happens to it then.
        budgeted: it is taken as far as the diagnostics' budget allows.
    """
    if not family_words.has_trainer(info):
        return f"This run has recorded no {what}. Another program wrote it; see what it holds in the *Control room*."
    found = lab.controls(info.name).get(control)  # first: of a run that is damaged nothing else is true
    if info.state == RunState.FAILED:
        return f"This run failed before its {what} were {done}: see the reason above."
    if not info.alive:
        more = ", or with more `budget percent` for the diagnostics" if budgeted else ""
        return (
            f"This run ended before its {what} were {done}. Start another with a smaller `{name_words(control)}`{more}."
        )
    every = "" if found is None else f" every {found.value:,} steps"
    bound = " as far as the budget of the diagnostics allows" if budgeted else ""
    now = queue_text(lab, info) or (
        "it is paused" if info.state == RunState.PAUSED else "see the control room until then"
    )
    return f"No {what} {done} yet: they are {done}{every}{bound}; {now}."


def queue_text(lab: Lab, info: RunInfo) -> str:
    """For whom a queued run waits, in Markdown: `the run is queued: waits for NAME`; empty for any other."""
    if info.state != RunState.QUEUED:
        return ""
    return (
        f"the run is {escape_markdown(waiting_words(info, lab.runs(), short=True) or 'queued: it waits for its turn')}"
    )
