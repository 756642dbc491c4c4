"""What all pictures have in common: names are drawn as they are written, dollar signs too."""

import matplotlib

# Settings of matplotlib that other settings of a picture may join.
AS_WRITTEN = {"text.parse_math": False}
# Decorates the functions that draw.
names_as_written = matplotlib.rc_context(AS_WRITTEN)
