"""DocSnap: turns a web site into one Markdown document, as background jobs.

The package is a complete small application on Toril. It imports nothing of Toril but its public names, so it can be
copied out of this repository and changed.
"""
