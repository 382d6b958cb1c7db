"""The name that the lessons still use for ``app.design.factor_drawing``."""

from app.design.factor_drawing import option_svg  # noqa: F401
