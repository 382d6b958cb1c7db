"""Models as data: their linear layers, their names, where their files lie. Free of torch."""
