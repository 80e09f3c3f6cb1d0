"""What the protocol says when it refuses: RFC 9457 problem details, with the value received and the remedy.

Every refusal is a `Problem`; the app turns it into `application/problem+json`. A person's mistake in the lab
(`ConfigError`, `LabError`) becomes one here, so that a client reads the same words as a page shows. Nothing of a
traceback ever leaves the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from qcore.config import ConfigError
from qcore.lab import LabError, StoreBusyError

MEDIA_TYPE = "application/problem+json"
KIND_PREFIX = "urn:collapse-lab:"
LONGEST = 2000


@dataclass(eq=False)
class Problem(Exception):
    """A refusal.

    Attributes:
        status: HTTP status.
        kind: short stable name, the end of the document's `type`.
        detail: what is wrong, with the value received.
        remedy: what to do.
        more: further members.
        headers: of the response.
    """

    status: int
    kind: str
    detail: str
    remedy: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail

    def document(self, instance: str = "") -> dict[str, Any]:
        """The problem details object; `instance` is the path that was asked for."""
        found: dict[str, Any] = {
            "type": KIND_PREFIX + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": shorten(self.detail),
        }
        if self.remedy:
            found["remedy"] = self.remedy
        if instance:
            found["instance"] = shorten(instance)
        return {**found, **self.more}

    def encoded(self, instance: str = "") -> bytes:
        """The document as JSON text."""
        return json.dumps(self.document(instance), ensure_ascii=True).encode("ascii")


def shorten(text: str) -> str:
    """`text` without a flood: what a client sent comes back in part only."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@contextmanager
def lab_problems() -> Iterator[None]:
    """Turn the lab's own refusals into problems: 422 for a bad value, 409 for a run that is in no state for it, 503
    while another process keeps the database locked.
    """
    try:
        yield
    except ConfigError as error:
        raise Problem(
            422, "refused-value", str(error), "Send a value that the detail names; see /v1/controls."
        ) from None
    except StoreBusyError as error:
        raise Problem(503, "busy", str(error), "Try again in a second.", headers={"Retry-After": "1"}) from None
    except LabError as error:
        raise Problem(
            409, "conflict", str(error), "Look at the run's state, GET /v1/runs/{name}, and try again."
        ) from None
