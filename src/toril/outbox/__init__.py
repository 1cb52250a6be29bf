"""Jobs on their way to the store: the spool for when it is away, the outbox for those of a database's transactions."""
