"""Phantom tomograms, physically made: densities -> scene -> tilt series -> tomogram -> files."""
