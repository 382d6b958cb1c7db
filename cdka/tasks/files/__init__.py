"""Own data: read a file or folder, map its columns, split it, show it."""
