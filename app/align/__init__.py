"""Parts of the Align room: the question, the maps, and the check whether alignment predicts the end of a run."""
