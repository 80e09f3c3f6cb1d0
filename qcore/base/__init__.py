"""What every room stands on: the errors that a person reads, the version, and the opening and reading of what came from
elsewhere.
"""

from qcore.base.documents import DocumentError, parse_json, read_json
from qcore.base.errors import BAD_VALUES, LabError, QcoreError
from qcore.base.files import plain_file
from qcore.base.version import VERSION

__all__ = ["BAD_VALUES", "VERSION", "DocumentError", "LabError", "QcoreError", "parse_json", "plain_file", "read_json"]
