"""The one exception that user mistakes raise; the command line turns it into exit status 2."""

from __future__ import annotations


class GrowthError(ValueError):
    """A request that cannot be carried out; the message names what was given, what was expected and what to do."""
