"""The names that the lessons still use for ``app.widgets``."""

from app.widgets import *  # noqa: F403
from app.widgets import html_block as show  # noqa: F401
from app.widgets import remark as quiet  # noqa: F401
