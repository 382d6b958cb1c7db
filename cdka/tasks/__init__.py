"""Tasks: data, labels and metric. ``catalogue`` is torch-free; the modules beside it load the data."""
