"""The root of all errors that a caller may want to catch, the error of a request that cannot be met, and what decoding
raises.
"""


class QcoreError(ValueError):
    """Anything that a person can have got wrong, or that data can be; the message names the value and the remedy."""


class LabError(QcoreError):
    """A request that is refused, or data that cannot be read; the message names the value and the remedy.

    Every door (pages, command line, protocol) turns it into words, so what the store raises about one run's data is one
    too: no page and no server has to know the ways in which a file can be bad.
    """


BAD_VALUES = (
    ValueError,  # json.JSONDecodeError, UnicodeDecodeError, NumPy's shapes
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What Python raises when a value is not what it should be. Caught around decoding alone, never around a request."""
