"""The errors that DiffLoRA raises on purpose; each message names a file or key and says what to do."""

from __future__ import annotations


class DiffLoRAError(Exception):
    """Base of every error that a user can cause or cure."""


class BadParameter(DiffLoRAError):
    """A setting or command argument is out of its range."""


class BadImage(DiffLoRAError):
    """A picture cannot be read or does not show what is needed."""


class BadFile(DiffLoRAError):
    """A file is missing, truncated, changed or of the wrong format."""


class Busy(DiffLoRAError):
    """Something that passes by itself: a lock that another process holds, a server that is away. Try again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, so that a scheduler knows it from an error that stays
