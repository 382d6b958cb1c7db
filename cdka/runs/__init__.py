"""The record of runs: SQLite is the only truth about what was asked, what happens, and what came of it."""
