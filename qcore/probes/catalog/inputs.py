"""Series of what updates are trained on: targets against inputs, rows against each other, and what a flow acts on."""

from __future__ import annotations

from qcore.probes.catalog.declare import group, series
from qcore.probes.catalog.units import POSITIONS, RATIO, SHARE, TOKEN_NATS

LABELS = group("labels", "targets")
BATCHES = group("batches", "rows of a step")
CLIPS = group("clips", "clips of a step")

LABELS_WRONG = series(
    "labels/wrong",
    "targets that are not the next token",
    SHARE,
    "Share of the targets that differ from the input at the next position: 0 for next-token prediction, whatever the "
    "text.",
    form=".1%",
    needs="text",
)
LABELS_LAG = series(
    "labels/lag",
    "lag of the wrong targets",
    "positions",
    "Of the targets that are not the next token: how far ahead of their position most of them stand in the input; 0 "
    "is the token itself, 2 a shift done twice.",
    form=".0f",
    needs="text",
)
LABELS_LAG_SHARE = series(
    "labels/lag_share",
    "wrong targets at that lag",
    SHARE,
    "Share of the targets that are not the next token which stand at the lag found.",
    form=".1%",
    needs="text",
)
LABELS_SHOWN = series(
    "labels/shown",
    "inputs that are their own answer",
    SHARE,
    "Of the targets that are not the next input: share whose next input is its own target, as when answers are "
    "written into the input.",
    form=".1%",
    needs="text",
)
LABELS_OTHER_ROW = series(
    "labels/other_row",
    "rows with the targets of another",
    SHARE,
    "Share of the rows whose targets continue the input of another row of the same step.",
    form=".1%",
    needs="text",
)
LABELS_TRAINED = series(
    "labels/trained",
    "real tokens that are targets",
    SHARE,
    "Share of the tokens, padding left out, that count in the loss: 1 where every token is learned.",
    form=".1%",
    needs="text",
)
LABELS_COVERED = series(
    "labels/covered",
    "positions of a row that have targets",
    POSITIONS,
    "Share of the positions at which any row has a target, among those at which any has a real token: below 1, some "
    "positions are never learned.",
    form=".1%",
    needs="text",
)
LABELS_FIRST = series(
    "labels/first",
    "first position with a target",
    POSITIONS,
    "How far into a row the first target lies, as a share of its length.",
    form=".2f",
    needs="text",
)
LABELS_LAST = series(
    "labels/last",
    "last position with a target",
    POSITIONS,
    "How far into a row the last target lies, as a share of its length.",
    form=".2f",
    needs="text",
)
LABELS_WITHOUT_GRADIENT = series(
    "labels/without_gradient",
    "targets without a gradient",
    SHARE,
    "Share of the targets whose position has a gradient of exactly 0 at the last hidden state: the loss does not read "
    "them.",
    form=".1%",
    needs="text",
)
LABELS_ENDS = series(
    "labels/ends",
    "texts that end within the rows",
    "texts",
    "Ends of a text in the inputs of the rows that were looked at.",
    form=".0f",
    needs="text",
)
LABELS_END_TARGETS = series(
    "labels/end_targets",
    "ends of a text among the targets",
    "targets",
    "How often the end of a text is a target in the same rows; where it never is, no sample can end.",
    form=".0f",
    needs="text",
)
LABELS_PADDING = series(
    "labels/padding",
    "targets within padding",
    SHARE,
    "Share of the targets that lie in the filling of a row: pad, or an end within a run of ends. Exactly 0 where "
    "padding is masked.",
    form=".2%",
    needs="text",
)
BATCHES_ROWS = series(
    "batches/rows", "rows looked at", "rows", "Rows of several steps that were compared.", form=".0f", needs="text"
)
BATCHES_DISTINCT = series(
    "batches/distinct",
    "different rows",
    "rows",
    "How many different rows are among those of several steps.",
    form=".0f",
    needs="text",
)
BATCHES_POSSIBLE = series(
    "batches/possible",
    "different rows that the text would give",
    "rows",
    "How many different rows so many windows of the training text hold, no more than an epoch has.",
    form=".0f",
    needs="text",
)
BATCHES_DISTINCT_IN_UPDATE = series(
    "batches/distinct_in_update",
    "different rows within a step",
    SHARE,
    "Share of the rows of one step that differ from each other, mean over several steps.",
    form=".1%",
    needs="text",
)
BATCHES_SPREAD = series(
    "batches/spread",
    "spread of a step's rows over the text",
    RATIO,
    "How far apart in the training text the rows of a step lie, relative to rows drawn at random: about 1 for a "
    "shuffled text, near 0 for neighbours.",
    form=".2f",
    needs="text",
)
BATCHES_CONTINUED = series(
    "batches/continued",
    "rows that continue the one before",
    SHARE,
    "Share of the rows of a step that begin where the row before them ends, less that of any two rows: about 0 for a "
    "shuffled text, 1 for one that is read in order.",
    form=".2f",
    needs="text",
)
BATCHES_SURPRISE = series(
    "batches/surprise",
    "usual surprise of a step's targets",
    TOKEN_NATS,
    "Mean −ln of how frequent the targets of a step are in training, median of the newest 16 steps: it knows nothing "
    "of the model.",
    form=".3f",
    needs="text",
)
BATCHES_SURPRISE_LARGEST = series(
    "batches/surprise_largest",
    "largest surprise of a step's targets",
    TOKEN_NATS,
    "The same of the most surprising of the newest 16 steps: a step of another kind of text stands out.",
    form=".3f",
    needs="text",
)
BATCHES_SURPRISE_STEP = series(
    "batches/surprise_step",
    "step with the most surprising targets",
    "step",
    "Which of the newest 16 steps it was (before training: of the first 16).",
    form=".0f",
    needs="text",
)
CLIPS_STD = series(
    "clips/std",
    "spread of what the flow acts on",
    "standard deviation",
    "Standard deviation of the latents, or of the pixels where there is no codec: noise has 1, and what it is mixed "
    "with should have about as much.",
    form=".3f",
    needs="frames",
)
CLIPS_MEAN = series(
    "clips/mean",
    "mean of what the flow acts on",
    "standard deviations of noise",
    "Mean of the latents, or of the pixels where there is no codec.",
    form=".3f",
    needs="frames",
)
CLIPS_TIME_DISTANCE = series(
    "clips/time_distance",
    "distance of the drawn times from what was asked for",
    "Kolmogorov–Smirnov distance",
    "Largest difference between the distribution of the times t that steps draw and the one that time_sampling names.",
    form=".3f",
    needs="frames",
)
CLIPS_TIME_LIMIT = series(
    "clips/time_limit",
    "distance that chance can explain",
    "Kolmogorov–Smirnov distance",
    "What the distance of so many times stays below but for one case in ten million.",
    form=".3f",
    needs="frames",
)
CLIPS_TIME_LOW = series(
    "clips/time_low", "smallest time drawn", "time", "The smallest t of several steps.", form=".3f", needs="frames"
)
CLIPS_TIME_HIGH = series(
    "clips/time_high", "largest time drawn", "time", "The largest t of several steps.", form=".3f", needs="frames"
)
CLIPS_TIME_VALUES = series(
    "clips/time_values",
    "different times drawn",
    SHARE,
    "Different values of t, over how many were drawn: 1 where time is continuous.",
    form=".2f",
    needs="frames",
)
CLIPS_UNTRAINED_FRAMES = series(
    "clips/untrained_frames",
    "frames without a gradient",
    SHARE,
    "Share of the frames of a clip at which the gradient of the loss is exactly 0: no step can teach the model "
    "anything about them.",
    form=".0%",
    needs="frames",
)
CLIPS_TIME_RESPONSE = series(
    "clips/time_response",
    "response to the time",
    "relative",
    "How much the velocity changes when the model is told another t for the same z: exactly 0 where t does not reach "
    "it.",
    needs="frames",
)
CLIPS_INPUT_RESPONSE = series(
    "clips/input_response",
    "response to the noisy clip",
    "relative",
    "How much the velocity changes when the model is given another z at the same t: exactly 0 where z does not reach "
    "it.",
    needs="frames",
)
CLIPS_ROUGHNESS = series(
    "clips/roughness",
    "roughness ÷ that of the smoothest other reading",
    RATIO,
    "Differences of neighbouring pixels in time and space, over those of the same numbers read in another order of "
    "their axes: above 1, another order makes a smoother clip.",
    form=".2f",
    needs="frames",
)
CLIPS_TIME_ALIKE = series(
    "clips/time_alike",
    "likeness of distant frames",
    "correlation",
    "Correlation of a pixel with itself half a clip and more later.",
    form=".2f",
    needs="frames",
)
CLIPS_SPACE_ALIKE = series(
    "clips/space_alike",
    "likeness of distant pixels",
    "correlation",
    "Correlation of pixels of one frame half a side and more apart, along the direction where it is larger.",
    form=".2f",
    needs="frames",
)
CLIPS_TIME_NEAR = series(
    "clips/time_near",
    "likeness of neighbouring frames",
    "correlation",
    "Correlation of a pixel with itself one frame later.",
    form=".2f",
    needs="frames",
)
