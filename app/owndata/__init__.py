"""Your own data in every room: the picker and what it shows of a file before anything is trained."""
