"""From a probability map to picks: candidates, the values that choose among them, and how these values are found."""
