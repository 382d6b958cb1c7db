"""Learn: the course."""

from app.learn import shell

shell.render()
