"""What the Align room is made of: the question, the maps, and whether alignment predicts the end of a run."""
