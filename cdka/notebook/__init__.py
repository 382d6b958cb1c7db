"""The verbs of ``cdka`` for a notebook or a script, and the objects that they return. Free of torch."""
