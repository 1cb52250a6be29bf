"""`WebUrl`: a checked http(s) address."""

import pytest

from toril.tasks.weburl import check_web_url


@pytest.mark.parametrize(
    "good",
    [
        "https://example.com",
        "http://example.com/",
        "https://example.com/a?b=c#d",
        "https://example.com:8443/x",
        "http://localhost:8000",
        "http://127.0.0.1:8000/x",
        "http://[::1]:8000/x",
        "https://user:secret@example.com/",
        "https://münchen.de/straße",
        "HTTPS://EXAMPLE.COM/",
    ],
)
def test_a_web_address_is_kept(good: str) -> None:
    assert check_web_url(good) == good
    assert check_web_url(f"  {good}\n") == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://?x",
        "https://exa mple.com",
        "https://example.com/a b",
        "https://example.com/\x00",
        "https://example.com\t/",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com:x/",
        "https://[::1/",
        "https://" + "a" * 9000,
    ],
)
def test_what_is_no_web_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="a web address"):
        check_web_url(bad)
