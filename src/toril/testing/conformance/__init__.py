"""The suite that every engine must pass. A whole test file for an engine:

    import pytest
    from toril.testing.conformance.factory import EngineFactory
    from toril.testing.conformance.suite import Conformance

    class MyEngines(EngineFactory):
        async def open(self, clock): ...            # a started engine on an empty store

    class TestMyEngine(Conformance):
        @pytest.fixture
        def engines(self, tmp_path): return MyEngines(tmp_path)

It needs pytest and pytest-asyncio in auto mode, and chooses its cases by `Engine.capabilities`. Time is always handed
to the engine; nothing sleeps to let it pass.
"""

import pkgutil

import pytest

# The cases live outside of test files, where pytest would leave a failing assert without its explanation.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
