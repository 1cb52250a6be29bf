"""Sessions of web users, kept in the store: policy only. `web/middleware/sessions.py` brings them to requests."""
