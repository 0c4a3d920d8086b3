"""The one exception that user mistakes raise; the command line turns it into exit status 2."""

from __future__ import annotations


class GrowthError(ValueError):
    """A request that cannot be carried out; the message names what was given, what was expected and what to do."""


class VerificationFailed(RuntimeError):
    """A grown checkpoint is not what its plan says; the message names what was found. Nothing was put in place."""
