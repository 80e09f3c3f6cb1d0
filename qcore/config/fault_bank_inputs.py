"""Cases of the fault bank about what is trained on: targets and rows of a text, and what a flow acts on.

They come from public reports of people's own loops and loaders; all are seen before the first step.
"""

from __future__ import annotations

from qcore.config.fault_case import FaultCase, video_case


def _text(code: str, *story: str, finding: str) -> FaultCase:
    title, seen, tell = story
    return FaultCase(code, title, seen, tell, (finding,), 0, {"kind": "transformer"})


def _flow(code: str, *story: str, finding: str) -> FaultCase:
    return video_case(code, *story, findings=(finding,), within=0, planted=True, steps=100)


INPUT_CASES = (
    _text(
        "D1",
        "Labels are shifted twice",
        "the loss falls, samples leave out every other word",
        "the targets stand two places ahead in the input, not one",
        finding="label_lag",
    ),
    _text(
        "D2",
        "One input in twenty is its own answer",
        "a held-out loss that is a little too good",
        "inputs that equal their own target where the target before them is not the next input",
        finding="answers_in_inputs",
    ),
    _text(
        "D3",
        "Targets of another row",
        "a loss at the unigram",
        "each row's targets continue the input of another row of its step",
        finding="foreign_targets",
    ),
    _text(
        "D4",
        "The loss reads the last position only",
        "noisy, slow training",
        "the gradient at the last hidden state is exactly 0 at all other targets",
        finding="few_targets",
    ),
    _text(
        "D5",
        "Padding is the end token, and both are masked",
        "samples that never end",
        "texts end within the rows, and their end is no target",
        finding="end_never_target",
    ),
    _text(
        "D6",
        "The same dozen rows for ever",
        "a training loss near 0, and a held-out loss that rises",
        "12 different rows where the text has hundreds",
        finding="repeated_batches",
    ),
    _text(
        "D7",
        "Nothing is shuffled",
        "a loss that swings from step to step",
        "rows begin where the row before them ends",
        finding="neighbouring_batches",
    ),
    _flow(
        "X1",
        "Pixels of 0 to 255 go in as they are",
        "samples of noise, or of grey",
        "a spread of 56 where noise has 1",
        finding="latent_spread",
    ),
    _flow(
        "X2",
        "t is cast to a whole number",
        "clips that flicker",
        "only two times are drawn, far from the distribution asked for",
        finding="time_distribution",
    ),
    _flow(
        "X3",
        "The loss reads the first frame only",
        "clips that flicker",
        "the gradient of the loss is exactly 0 at the other frames",
        finding="untrained_frames",
    ),
    _flow(
        "X4",
        "The model is told one time at every step",
        "samples that stay noisy",
        "another time changes nothing of the velocity",
        finding="time_ignored",
    ),
    _flow(
        "X5",
        "The noisy clip does not reach the model",
        "all samples are the mean clip",
        "another clip changes nothing of the velocity",
        finding="input_ignored",
    ),
    _flow(
        "X6",
        "Reshaped where it had to be permuted",
        "samples of stripes",
        "in another order of their axes the same numbers make a smoother clip",
        finding="scrambled_pixels",
    ),
)
