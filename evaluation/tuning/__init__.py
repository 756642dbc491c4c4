"""Search of hyperparameters on tomograms with truth."""
