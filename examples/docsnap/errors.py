"""What can go wrong while a site is read.

CrawlError
├── AddressRefused    the address is private; never tried again
├── PageUnusable      not found, not text, too large, forbidden by robots.txt; trying again changes nothing
└── PageUnavailable   no answer, a broken answer, or a server error; trying again may help
"""


class CrawlError(Exception):
    """Base of all crawl errors. `retryable` says whether another attempt makes sense."""

    retryable = False


class AddressRefused(CrawlError):
    """The host is, or resolves to, an address that is not part of the public internet."""


class PageUnusable(CrawlError):
    """The page answered, but there is nothing to be had from it."""


class PageUnavailable(CrawlError):
    """The page did not answer in time or answered with a passing error."""

    retryable = True
