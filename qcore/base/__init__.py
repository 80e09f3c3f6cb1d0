"""What every room stands on: the error that a person reads, and the reading of JSON that came from elsewhere."""

from qcore.base.documents import DocumentError, parse_json, read_json
from qcore.base.errors import LabError

__all__ = ["DocumentError", "LabError", "parse_json", "read_json"]
