"""Django's SQLite backend with a queue: the writers of one process take turns in order of arrival."""
