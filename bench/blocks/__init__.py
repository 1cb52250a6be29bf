"""Measures of what Toril offers beside jobs, against the libraries that people use for it."""
