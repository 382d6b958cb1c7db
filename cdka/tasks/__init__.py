"""Tasks: rows, answers and metrics. Free of torch; ``cdka.train.data`` makes tensors of the rows."""
