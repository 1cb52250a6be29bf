"""Toril over HTTP."""
