"""What the Design room is made of, apart from asking and placing."""
