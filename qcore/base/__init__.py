"""What every room stands on: the error that a person reads, and the opening and reading of what came from elsewhere."""

from qcore.base.documents import DocumentError, parse_json, read_json
from qcore.base.errors import BAD_VALUES, LabError
from qcore.base.files import plain_file

__all__ = ["BAD_VALUES", "DocumentError", "LabError", "parse_json", "plain_file", "read_json"]
