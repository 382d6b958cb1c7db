"""The cost of a run before it starts: parameters, file, FLOPs, memory and time. Free of torch."""
