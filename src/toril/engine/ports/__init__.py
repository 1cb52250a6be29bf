"""The small protocols through which features see an engine. Each is a contract; `toril.testing.conformance` checks
it.
"""
