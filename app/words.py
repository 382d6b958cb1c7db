"""The names that the lessons still use for ``cdka.formatting``."""

from cdka.formatting import *  # noqa: F403
