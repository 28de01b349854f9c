"""How the tables, figures and verdicts of the paper are made again with `reid_core`."""
