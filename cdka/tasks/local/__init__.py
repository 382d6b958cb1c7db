"""Your own data: read a file or folder, map its columns, look at it, split it, train on it. Free of torch but for
``load``."""
