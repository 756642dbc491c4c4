"""From tomograms to probability maps."""
