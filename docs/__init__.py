"""The page of all flags, and the command that writes it."""
