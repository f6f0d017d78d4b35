"""Which pictures of a source are fit for training, and which split each belongs to."""
