"""Toril beside its peers: every figure of a table from one run on one machine, taking turns. `make bench` runs it."""
