"""Toril on Redis beside the job queues of Python and Node on one redis-server, in turns: `python -m bench redis`."""
