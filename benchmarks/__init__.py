"""`make bench`: what Lockboard costs beside the textbook way, as ratios taken within one run."""
