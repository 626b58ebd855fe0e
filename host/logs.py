"""What a service writes to its log: lines for people, or one JSON object a line, with the request that it is about."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FORMS = ("text", "json")
REQUEST: ContextVar[str] = ContextVar("request", default="")
"""The id of the request that is answered now."""


class JsonLines(logging.Formatter):
    """``at`` (UTC), ``level``, ``logger``, ``message``, the ``request``, facts given as ``extra={"facts": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        if request := REQUEST.get():
            told["request"] = request
        told |= getattr(record, "facts", {})
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class Lines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {**({"request": REQUEST.get()} if REQUEST.get() else {}), **getattr(record, "facts", {})}
        told = "".join(f" {name}={_quoted(str(value))}" for name, value in facts.items())
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        line = _on_one_line(f"{at} {record.levelname.lower()} {record.getMessage()}{told}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _on_one_line(text: str) -> str:
    """With escapes for what is not printed, so that no path which a caller makes up forges a line."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _quoted(text: str) -> str:
    """In quotes where it has blanks, so that it forges no fact."""
    return repr(text) if any(map(str.isspace, text)) else text


def log_config(form: str, level: str) -> dict[str, Any]:
    """For ``logging.config``: to standard error, in one of FORMS; of other libraries only warnings and worse."""
    formatter = f"{__name__}.{'JsonLines' if form == 'json' else 'Lines'}"
    return {
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"chosen": {"()": formatter}},
        "handlers": {"error": {"class": "logging.StreamHandler", "formatter": "chosen"}},
        "root": {"handlers": ["error"], "level": "WARNING"},
        "loggers": {"uvicorn": {"level": level}, "chamnet": {"level": level}},
    }  # fmt: skip
