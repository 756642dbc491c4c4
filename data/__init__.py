"""Reading and preparing data: runs, tomograms, picks, masks, patches."""
