"""A small web site to crawl: the handbook of Lantern, a feature-flag server that does not exist.

It behaves as real sites do: every page takes its time, one is slow, one moved, one link is dead, and robots.txt closes
one page to crawlers.
"""
