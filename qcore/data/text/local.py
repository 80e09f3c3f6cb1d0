"""Text that lies in a place of this machine: a file, a folder of files, or a data set that was saved to disk."""

from __future__ import annotations

from qcore.config import DataError
from qcore.config.places import place, printable_path
from qcore.config.sources import (
    check_file,
    data_set_folder,
    detect_form,
    no_text_reason,
    skipped_tables,
    survey,
)
from qcore.data.text.files import Texts, read_files
from qcore.data.text.hub import read_saved
from qcore.data.text.size_limits import check_room
from qcore.data.text.tables import ColumnChoice

_MOST_NAMED = 5


def read_place(location: str, setting: str, column: ColumnChoice, encoding: str = "") -> Texts:
    """Documents of a file or of all files below a folder: prose by file, tables by row.

    Below a folder, tables beside prose, files about the folder (README, LICENSE), what is no text and what cannot be
    read are skipped with the reason.

    Args:
        encoding: of prose and CSV that begin with no mark; empty is UTF-8.

    Raises:
        DataError: for a place that gives nothing, for a single file that cannot be read, and for a folder that is laid
            out as a data set.
    """
    path = place(location, setting, "a UTF-8 text file or a folder of them")
    said = f"{setting} = {printable_path(location)!r}"
    if not path.is_dir():
        size = check_file(path, said, encoding).size
        # by the size on disk: what is packed is weighed again while it unpacks
        check_room(size, said)
        found = read_files([(path, detect_form(path, encoding))], column, path.parent, divided=True)
        return Texts(found.documents, size, (), found.notes)
    survey_ = survey(path, encoding)
    if survey_.card and not survey_.saved:
        raise DataError(f"{said} is refused: {data_set_folder(location)}")
    if survey_.saved:
        return read_saved(path, column)
    used, passed = survey_.prose, skipped_tables(path, survey_)
    if not used:
        used, passed = survey_.tables, ()
    if not used:
        raise DataError(f"{said} is refused: {no_text_reason(survey_)}")
    check_room(sum(file.stat().st_size for file, _ in used), said)
    skipped = [*survey_.skipped, *passed]
    hidden = (f"{survey_.hidden} hidden names were skipped",) if survey_.hidden else ()
    # one file is cut into documents, as half of it must be held out; of several files each is one
    found = read_files(used, column, path, divided=len(used) == 1, skipped=skipped)
    # reasons are shown: a folder of which nothing can be used is mostly one kind of mistake
    if not any(document.strip() for document in found.documents):
        reasons = "; ".join(f"{file.path} {file.reason}" for file in skipped[:_MOST_NAMED])
        raise DataError(f"no file under {said} holds UTF-8 text ({reasons}): give another folder or a text file")
    return Texts(found.documents, found.size, tuple(skipped), (*found.notes, *hidden))
