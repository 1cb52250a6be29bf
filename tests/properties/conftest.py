"""A failure in the machine shows both sides."""

import pytest

pytest.register_assert_rewrite("tests.properties.comparing", "tests.properties.machine")
