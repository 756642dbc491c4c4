"""Work on many machines: shards without any further program, or workers of Dask."""
